//! SQLite in memory behind sea-orm. The statements are those of production; they run in the thread that asks, since
//! sqlx hands each to a thread of its own, which takes longer than most of them. sea-orm's way in for a driver of
//! one's own is its mock: its proxy doesn't build beside sqlx's SQLite (2.0.4).

use super::columns::{self, Kind};
use longshore_schema::ids::OperationId;
use rusqlite::{
    Connection,
    config::DbConfig,
    types::{ToSqlOutput, ValueRef},
};
use sea_orm::{
    DatabaseBackend, DatabaseConnection, DatabaseConnectionType, DbErr, ExecResult, MockDatabase, MockDatabaseConnection,
    MockDatabaseTrait, MockExecResult, QueryResult, RuntimeErr, Statement, Transaction, Value,
    sqlx::error::{DatabaseError, ErrorKind},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    error::Error,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use uuid::Uuid;

/// Prepared statements: more than there are.
const PREPARED: usize = 1000;

/// A database in memory.
#[derive(Debug, Clone)]
pub(super) struct Sqlite(Arc<Mutex<Open>>);

type Shape = Arc<[(String, Option<Kind>)]>;

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// By statement: the name and the type of each column of its rows.
    shapes: HashMap<String, Shape>,
}

impl Sqlite {
    /// A copy of a database's file.
    pub(super) fn copy_of(path: &Path) -> rusqlite::Result<Sqlite> {
        let mut connection = Connection::open_in_memory()?;
        connection.restore(rusqlite::MAIN_DB, path, None::<fn(rusqlite::backup::Progress)>)?;
        // Otherwise SQLite makes a new plan for each LIMIT and for each value that a partial index might fit.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        // As production has it.
        connection.execute_batch("PRAGMA recursive_triggers = on")?;
        Ok(Sqlite(Arc::new(Mutex::new(Open { connection, shapes: HashMap::new() }))))
    }

    /// As the engine uses it.
    pub(super) fn connection(&self) -> DatabaseConnection {
        DatabaseConnectionType::MockDatabaseConnection(Arc::new(MockDatabaseConnection::new(self.clone()))).into()
    }

    /// Runs statements that have no values, one after the other.
    pub(super) fn run(&self, statements: &[String]) -> rusqlite::Result<()> {
        let open = self.lock();
        statements.iter().try_for_each(|it| open.connection.prepare_cached(it)?.raw_execute().map(drop))
    }

    /// The numbers of a statement's only row.
    pub(super) fn numbers<const N: usize>(&self, sql: &str) -> rusqlite::Result<[Option<i64>; N]> {
        let open = self.lock();
        open.connection.prepare_cached(sql)?.query_row([], |row| {
            let mut numbers = [None; N];
            numbers.iter_mut().enumerate().try_for_each(|(n, it)| row.get(n).map(|found| *it = found))?;
            Ok(numbers)
        })
    }

    /// A sum for each operation: rows of an id and a number.
    pub(super) fn sums(&self, sql: &str) -> rusqlite::Result<BTreeMap<Uuid, u64>> {
        let open = self.lock();
        let mut prepared = open.connection.prepare_cached(sql)?;
        let mut rows = prepared.raw_query();
        let mut sums = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let id: Vec<u8> = row.get(0)?;
            sums.insert(Uuid::from_slice(&id).unwrap_or_default(), row.get::<_, i64>(1)?.unsigned_abs());
        }
        Ok(sums)
    }

    /// Whether a step of an operation waits for room in its queue.
    pub(super) fn waits_to_be_sent(&self, operation: OperationId) -> bool {
        self.has_step(operation, "SELECT count(*) FROM step WHERE operation_id = ? AND state = 'sent' AND start_before IS NULL")
    }

    fn has_step(&self, operation: OperationId, sql: &str) -> bool {
        let open = self.lock();
        let prepared = open.connection.prepare_cached(sql);
        let count = prepared.and_then(|mut it| it.query_row([operation.0.as_bytes().as_slice()], |row| row.get::<_, i64>(0)));
        count.expect("a number") > 0
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transaction(&self, word: &str) {
        // Nobody else uses this connection, and no constraint is deferred.
        self.lock().connection.prepare_cached(word).and_then(|mut it| it.raw_execute()).expect(word);
    }
}

impl MockDatabaseTrait for Sqlite {
    fn query(&mut self, _: usize, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let open = &mut *self.lock();
        let Open { connection, shapes } = open;
        let mut prepared = connection.prepare_cached(&statement.sql).map_err(failed)?;
        bind(&mut prepared, &statement)?;
        let shape = match shapes.get(&statement.sql) {
            Some(known) => known.clone(),
            None => {
                let shape: Shape = columns::of(&statement.sql, &prepared.column_names()).into();
                shapes.insert(statement.sql.clone(), shape.clone());
                shape
            }
        };
        let mut rows = prepared.raw_query();
        let mut found = vec![];
        while let Some(row) = rows.next().map_err(failed)? {
            let mut values = std::collections::BTreeMap::new();
            for (n, (name, kind)) in shape.iter().enumerate() {
                let value = row.get_ref(n).map_err(failed)?;
                let read = columns::read(*kind, value).ok_or_else(|| DbErr::Type(format!("{name} is {value:?}: {kind:?}")))?;
                values.insert(name.clone(), read);
            }
            found.push(values);
        }
        // Only a mock can make rows of values.
        MockDatabase::new(DatabaseBackend::Sqlite).append_query_results([found]).query(0, statement)
    }

    fn execute(&mut self, _: usize, statement: Statement) -> Result<ExecResult, DbErr> {
        let open = self.lock();
        let mut prepared = open.connection.prepare_cached(&statement.sql).map_err(failed)?;
        bind(&mut prepared, &statement)?;
        let changed = prepared.raw_execute().map_err(failed)?;
        let last_insert_id = open.connection.last_insert_rowid() as u64;
        let done = MockExecResult { last_insert_id, rows_affected: changed as u64 };
        MockDatabase::new(DatabaseBackend::Sqlite).append_exec_results([done]).execute(0, statement)
    }

    fn begin(&mut self) {
        self.transaction("BEGIN IMMEDIATE");
    }

    fn commit(&mut self) {
        self.transaction("COMMIT");
    }

    fn rollback(&mut self) {
        self.transaction("ROLLBACK");
    }

    fn drain_transaction_log(&mut self) -> Vec<Transaction> {
        vec![]
    }

    fn get_database_backend(&self) -> DatabaseBackend {
        DatabaseBackend::Sqlite
    }

    fn ping(&self) -> Result<(), DbErr> {
        Ok(())
    }
}

fn failed(error: rusqlite::Error) -> DbErr {
    let text = error.to_string();
    DbErr::Query(match error.sqlite_error() {
        Some(code) if code.code == rusqlite::ErrorCode::ConstraintViolation => {
            RuntimeErr::SqlxError(Arc::new(Unmet { text, code: code.extended_code }.into()))
        }
        _ => RuntimeErr::Internal(text),
    })
}

/// A constraint that isn't met. The engine knows a conflict by its code, and only errors of sqlx have one.
#[derive(Debug)]
struct Unmet {
    text: String,
    /// SQLite's extended result code.
    code: i32,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Unmet {}

impl DatabaseError for Unmet {
    fn message(&self) -> &str {
        &self.text
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        // A key that is there: sea-orm says so by the driver's own type of errors, so here it is said by a code of a conflict.
        let unique = [rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY, rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE];
        Some(if unique.contains(&self.code) { "40001".into() } else { self.code.to_string().into() })
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn bind(prepared: &mut rusqlite::Statement<'_>, statement: &Statement) -> Result<(), DbErr> {
    for (n, value) in statement.values.iter().flat_map(|it| &it.0).enumerate() {
        prepared.raw_bind_parameter(n + 1, bound(value)?).map_err(failed)?;
    }
    Ok(())
}

/// As sqlx binds it.
fn bound(value: &Value) -> Result<ToSqlOutput<'_>, DbErr> {
    fn integer<'v>(value: Option<impl Into<i64>>) -> Option<ToSqlOutput<'v>> {
        value.map(|it| ToSqlOutput::Owned(rusqlite::types::Value::Integer(it.into())))
    }
    let bound = match value {
        Value::Bool(value) => integer(*value),
        Value::SmallInt(value) => integer(*value),
        Value::Int(value) => integer(*value),
        Value::BigInt(value) => integer(*value),
        Value::Unsigned(value) => integer(*value),
        Value::BigUnsigned(value) => integer(value.map(|it| i64::try_from(it).unwrap_or(i64::MAX))),
        Value::Double(value) => value.map(|it| ToSqlOutput::Owned(rusqlite::types::Value::Real(it))),
        Value::String(value) => value.as_ref().map(|it| ToSqlOutput::Borrowed(ValueRef::Text(it.as_bytes()))),
        Value::Bytes(value) => value.as_ref().map(|it| ToSqlOutput::Borrowed(ValueRef::Blob(it))),
        Value::Uuid(value) => value.as_ref().map(|it| ToSqlOutput::Borrowed(ValueRef::Blob(it.as_bytes()))),
        Value::Json(value) => value.as_ref().map(|it| ToSqlOutput::Owned(rusqlite::types::Value::Text(it.to_string()))),
        other => return Err(DbErr::Type(format!("no table has {other:?}"))),
    };
    Ok(bound.unwrap_or(ToSqlOutput::Borrowed(ValueRef::Null)))
}
