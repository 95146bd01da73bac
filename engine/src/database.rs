//! The database: SQLite (one writer, WAL) or PostgreSQL. Every transaction runs in a task of its own, since a
//! future dropped inside begin or commit would poison the pool.

pub(crate) mod reckoning;
mod transaction;

use anyhow::{Context, bail};
use futures::future::BoxFuture;
use longshore_schema::{migrations::Migrator, time::Timestamp};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseBackend, DatabaseConnection, DbErr, RuntimeErr, SqlErr, Statement,
    sqlx::{
        Connection,
        postgres::{PgConnectOptions, PgConnection},
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};
use sea_orm_migration::MigratorTrait;
use std::{
    borrow::Cow,
    fs::File,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
pub use transaction::Transaction;

/// How long a server may take to answer who only asks whether it is there.
const KNOCK: Duration = Duration::from_secs(10);

/// Waits, as long as it takes, until nobody else migrates; the number is anything that stays the same. It ends with its
/// transaction.
const TURN: &str = "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(7305792161)";

/// Of the files that are made here: bodies, plans and histories are nobody else's business on this host.
const PRIVATE: u32 = 0o600;

/// A database, migrated to this version.
#[derive(Debug, Clone)]
pub struct Database {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    url: String,
    clock: Clock,
}

/// What tells the database's time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// A server.
    Server,
    /// This host: an embedded database has no other.
    Host,
    /// A simulation: microseconds since 1970.
    Simulated(Arc<AtomicI64>),
}

/// Why a transaction didn't come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Someone else was faster: read again, decide again.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The database doesn't answer, or the answer to the commit was lost: what was to be done may be done.
    #[error("{0}")]
    Database(#[source] DbErr),
    /// Something of ours is wrong.
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

impl From<DbErr> for Failed {
    fn from(error: DbErr) -> Failed {
        let is = |what: fn(&str) -> bool| code_of(&error).is_some_and(|it| what(&it));
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(what)) => Failed::Conflict(what),
            _ if is(is_conflict) => Failed::Conflict(error.to_string()),
            // What was to be written can't be: a NUL in a text, a number out of range. Trying again can't help.
            _ if is(is_data_exception) => Failed::Internal(error.into()),
            _ => Failed::Database(error),
        }
    }
}

/// Whether somebody else was in the way: `serialization_failure` and `deadlock_detected` of PostgreSQL, and SQLite's
/// `SQLITE_BUSY` and `SQLITE_LOCKED` with all their extensions, which are in the higher bytes
/// (<https://www.sqlite.org/rescode.html>). SQLite's codes have fewer digits than a SQLSTATE.
fn is_conflict(code: &str) -> bool {
    let sqlite = || code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|it| it & 0xff);
    matches!(code, "40001" | "40P01") || matches!(sqlite(), Some(5 | 6))
}

/// SQLSTATE class 22, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn is_data_exception(code: &str) -> bool {
    code.len() == 5 && code.starts_with("22")
}

/// What the driver says: a SQLSTATE, or SQLite's extended result code.
fn code_of(error: &DbErr) -> Option<Cow<'_, str>> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => error.as_database_error()?.code(),
        _ => None,
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed::Internal(error)
    }
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Failed {
        Failed::Internal(error.into())
    }
}

impl Database {
    /// Connects to `sqlite://PATH` or `postgres://…` and brings it up to this version. Error texts hold no password.
    pub async fn open(url: &str) -> anyhow::Result<Database> {
        let database = Database::connect(url).await?;
        database.migrate().await.context("migrate the database")?;
        Ok(database)
    }

    /// All of it or nothing, one process after the other: on SQLite by the writers' lock, on PostgreSQL by one of ours, as
    /// two that make the same table at the same time fail there, even `IF NOT EXISTS`.
    async fn migrate(&self) -> Result<(), Failed> {
        self.transact(|tx| {
            Box::pin(async move {
                if tx.get_database_backend() == DatabaseBackend::Postgres {
                    tx.execute_unprepared(TURN).await?;
                }
                Migrator::up(tx.begun().await?, None).await?;
                first_row(tx).await
            })
        })
        .await
    }

    /// Connects without migrating; fails if the database isn't of this version.
    pub async fn connect(url: &str) -> anyhow::Result<Database> {
        let shown = hide_password(url);
        let (writer, reader, clock) = if url.starts_with("sqlite:") {
            make_private(url).with_context(|| format!("open {shown}"))?;
            let open = |connections, query_only: bool| sqlite(url, connections, query_only);
            let writer = sea_orm::Database::connect(open(1, false)).await.with_context(|| format!("open {shown}"))?;
            let reader = sea_orm::Database::connect(open(4, true)).await.with_context(|| format!("open {shown}"))?;
            (writer, reader, Clock::Host)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let writer = sea_orm::Database::connect(postgres(url, true)).await.with_context(|| format!("connect to {shown}"))?;
            let reader = sea_orm::Database::connect(postgres(url, false)).await.with_context(|| format!("connect to {shown}"))?;
            (writer, reader, Clock::Server)
        } else {
            bail!("the database is sqlite://PATH or postgres://USER@HOST/NAME, not {shown}");
        };
        Ok(Database { writer, reader, url: url.to_owned(), clock })
    }

    /// A migrated database behind any connection, whose clock is the caller's: for simulations.
    #[cfg(feature = "simulation")]
    pub fn simulated(connection: DatabaseConnection, clock: Arc<AtomicI64>) -> Database {
        Database { reader: connection.clone(), writer: connection, url: "sqlite::memory:".into(), clock: Clock::Simulated(clock) }
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Connects to a server once and leaves. A pool tries again for half a minute and then forgets why it failed;
    /// this says it at once.
    pub async fn knock(url: &str) -> anyhow::Result<()> {
        if !(url.starts_with("postgres:") || url.starts_with("postgresql:")) {
            return Ok(());
        }
        let shown = hide_password(url);
        let options: PgConnectOptions = url.parse().with_context(|| format!("read the address {shown}"))?;
        let connected = tokio::time::timeout(KNOCK, PgConnection::connect_with(&options)).await;
        let connection = connected.map_err(|_| anyhow::anyhow!("no answer within {} s", KNOCK.as_secs()));
        let connection =
            connection.and_then(|it| it.map_err(anyhow::Error::new)).with_context(|| format!("connect to {shown}"))?;
        // It was answered, which is all that was asked; how it leaves doesn't matter.
        let _ = connection.close().await;
        Ok(())
    }

    /// For reading outside of transactions.
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Whether it is the embedded one.
    pub fn is_sqlite(&self) -> bool {
        self.writer.get_database_backend() == DatabaseBackend::Sqlite
    }

    /// Runs `work` in one transaction, in a task of its own. An error rolls back; an error of the commit is `Database`.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn transact<T, F>(&self, work: F) -> Result<T, Failed>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t Transaction) -> BoxFuture<'t, Result<T, Failed>> + Send + 'static,
    {
        let writer = self.writer.clone();
        let task = tokio::spawn(async move {
            let transaction = Transaction::new(writer);
            match work(&transaction).await {
                Ok(done) => {
                    transaction.commit().await?;
                    Ok(done)
                }
                Err(failed) => {
                    // After some errors SQLite has rolled back by itself, and this fails. The first error says why.
                    if let Err(error) = transaction.rollback().await {
                        tracing::debug!(%error, "roll back; the connection is closed");
                    }
                    Err(failed)
                }
            }
        });
        task.await.map_err(|error| Failed::Internal(anyhow::anyhow!("the transaction's task ended: {error}")))?
    }

    /// Takes the lock of an embedded database: one engine at a time. `None` for PostgreSQL, where any number may run.
    pub fn lock(&self) -> anyhow::Result<Option<Arc<File>>> {
        let Some(path) = sqlite_path(&self.url) else { return Ok(None) };
        let path = format!("{path}.lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(PRIVATE).open(&path);
        let file = file.with_context(|| format!("open {path}"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Arc::new(file))),
            Err(std::fs::TryLockError::WouldBlock) => bail!("another engine runs on this database ({path} is locked)"),
            Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {path}")),
        }
    }
}

/// The site's row exists from the first start on: it holds the database's incarnation.
async fn first_row(tx: &Transaction) -> Result<(), Failed> {
    use longshore_schema::tables::site;
    use sea_orm::{ActiveValue::Set, EntityTrait};
    let row = site::ActiveModel { id: Set(1), incarnation: Set(uuid::Uuid::now_v7()), version: Set(1) };
    site::Entity::insert(row).on_conflict_do_nothing_on([site::Column::Id]).exec_without_returning(tx).await?;
    Ok(())
}

/// Makes the file of an embedded database that has none yet, as SQLite would make it readable for everyone. What it puts
/// beside it gets the same mode. A file that exists isn't opened: closing it would give up SQLite's own locks on it.
fn make_private(url: &str) -> anyhow::Result<()> {
    if [":memory:", "mode=memory", "mode=ro"].iter().any(|it| url.contains(it)) {
        return Ok(());
    }
    let options: SqliteConnectOptions = url.parse()?;
    match File::options().create_new(true).write(true).mode(PRIVATE).open(options.get_filename()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The path of an embedded database's file.
pub fn sqlite_path(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    path.split('?').next()
}

impl Clock {
    /// The database's time.
    pub async fn now(&self, db: &impl ConnectionTrait) -> Result<Timestamp, DbErr> {
        match self {
            Clock::Server => now(db).await,
            Clock::Host => Ok(host_now()),
            Clock::Simulated(time) => Ok(Timestamp(time.load(Ordering::Relaxed))),
        }
    }
}

/// The database's clock, in microseconds since 1970.
pub async fn now(db: &impl ConnectionTrait) -> Result<Timestamp, DbErr> {
    let backend = db.get_database_backend();
    if backend != DatabaseBackend::Postgres {
        return Ok(host_now());
    }
    let row = db.query_one_raw(Statement::from_string(backend, format!("SELECT {SERVER_NOW} AS now"))).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the database's clock".into()))?;
    Ok(Timestamp(row.try_get("", "now")?))
}

/// PostgreSQL's clock in SQL, as `Timestamp` has it.
pub(crate) const SERVER_NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

fn host_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn sqlite(url: &str, connections: u32, query_only: bool) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).sqlx_logging(false).acquire_timeout(Duration::from_secs(60));
    options.map_sqlx_sqlite_opts(move |it| {
        let it = it.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let it = it.busy_timeout(Duration::from_secs(30)).pragma("recursive_triggers", "on");
        if query_only { it.pragma("query_only", "on") } else { it }
    });
    options.map_sqlx_sqlite_pool_opts(|it| it.after_release(|connection, _| Box::pin(async move { Ok(is_out(connection)) })));
    options
}

/// Whether a connection is out of every transaction. One whose commit or rollback failed isn't, and is closed: sqlx would
/// begin the next transaction as a savepoint inside of it, whose commit commits nothing. SQLite does that when its disk is full.
fn is_out<C: Connection>(connection: &C) -> bool {
    !connection.is_in_transaction()
}

/// Writers' statements are few, by key, and some are large: each is planned once for a connection. What people read is planned
/// for what they ask. Each has connections of its own, so that whoever reads much keeps no writer waiting.
fn postgres(url: &str, writer: bool) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(if writer { 3 } else { 5 })
        .connect_lazy(!writer)
        .sqlx_logging(false)
        .acquire_timeout(Duration::from_secs(30))
        // One that a restarted server dropped isn't used; while there is work, nothing is asked before each statement.
        .test_before_acquire_if_idle_for(Duration::from_secs(1))
        .max_lifetime(Duration::from_secs(600));
    options.map_sqlx_postgres_opts(move |it| {
        let limits = [("statement_timeout", "60s"), ("lock_timeout", "20s"), ("idle_in_transaction_session_timeout", "60s")];
        // Every query is by key. A plan that was made, and kept, while a table was still empty must be so too.
        let by_key = [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("jit", "off")];
        let plans = [("plan_cache_mode", if writer { "force_generic_plan" } else { "auto" })];
        it.options(limits).options(by_key).options(plans)
    });
    options.map_sqlx_postgres_pool_opts(|it| it.after_release(|connection, _| Box::pin(async move { Ok(is_out(connection)) })));
    options
}

/// A URL without its password.
pub fn hide_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => match url[scheme + 3..at].find(':') {
            Some(colon) => format!("{}:***{}", &url[..scheme + 3 + colon], &url[at..]),
            None => url.to_owned(),
        },
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use sea_orm::EntityTrait;

    /// Fills SQLite up, as a full disk does.
    async fn fill(database: &Database) -> Failed {
        let full = database.transact(|tx| {
            async move {
                tx.execute_unprepared("PRAGMA max_page_count = 1").await?;
                tx.execute_unprepared("CREATE TABLE large (body TEXT)").await?;
                tx.execute_unprepared("INSERT INTO large VALUES (hex(zeroblob(1000000)))").await?;
                Ok(())
            }
            .boxed()
        });
        full.await.unwrap_err()
    }

    #[tokio::test]
    async fn what_is_committed_after_a_full_disk_is_there_for_everyone() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/longshore.db", folder.path().display());
        let database = Database::open(&url).await.unwrap();
        for n in 0..3 {
            let failed = fill(&database).await;
            assert!(matches!(&failed, Failed::Database(_)) && failed.to_string().contains("full"), "{failed}");
            let done = database.transact(move |tx| {
                async move {
                    tx.execute_unprepared(&format!("UPDATE site SET version = {}", 100 + n)).await?;
                    Ok(())
                }
                .boxed()
            });
            done.await.unwrap();
            let other = Database::connect(&url).await.unwrap();
            let row = longshore_schema::tables::site::Entity::find_by_id(1).one(other.read()).await.unwrap().unwrap();
            assert_eq!(row.version, 100 + n);
        }
    }

    #[tokio::test]
    async fn the_files_of_an_embedded_database_are_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/longshore.db", folder.path().display())).await.unwrap();
        let _lock = database.lock().unwrap().unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap());
        let mut modes: Vec<_> = files
            .map(|it| (it.file_name().into_string().unwrap(), it.metadata().unwrap().permissions().mode() & 0o777))
            .collect();
        modes.sort();
        let names = ["longshore.db", "longshore.db-shm", "longshore.db-wal", "longshore.db.lock"];
        assert_eq!(modes, names.map(|it| (it.to_owned(), 0o600)));
    }

    #[tokio::test]
    async fn a_database_that_exists_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore.db");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        Database::open(&format!("sqlite://{}", path.display())).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_the_reason_and_without_the_password() {
        // Nothing listens on port 1, and nobody but root could.
        let error = Database::knock("postgres://u:hunter2@127.0.0.1:1/x").await.unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("postgres://u:***@127.0.0.1:1/x") && said.contains("refused"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_conflict_is_told_by_its_code() {
        // SQLite: busy, with a snapshot that is too old, locked, with a shared cache.
        for code in ["40001", "40P01", "5", "517", "6", "262"] {
            assert!(is_conflict(code) && !is_data_exception(code), "{code}");
        }
        // A constraint of either, a full disk, no large files, and a SQLSTATE that would be a code of SQLite if it were shorter.
        for code in ["23505", "2067", "13", "22", "00261", "P0001", ""] {
            assert!(!is_conflict(code) && !is_data_exception(code), "{code}");
        }
        assert!(is_data_exception("22003") && !is_conflict("22003"));
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(hide_password("postgres://u:p:w@h/d"), "postgres://u:***@h/d");
        assert_eq!(hide_password("sqlite:///tmp/x@y:z.db"), "sqlite:///tmp/x@y:z.db");
    }
}
