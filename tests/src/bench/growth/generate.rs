//! Makes operations that are over, many at a time: PostgreSQL copies the rows of templates, each under an id, a time, a
//! tenant, a zone and a person of its own, into the tables as they are migrated, with their indexes and triggers.
//!
//! Ids in events and names of packs are the operation's own; plans and outputs are the template's as they are. Digests are
//! 32 bytes that no one can compress, not BLAKE3's: PostgreSQL hasn't that. So `history --verify` says of these operations
//! that they were changed; those that the bench's own engine did have right chains.

use super::{
    copies::{functions, tables},
    templates::{self, WEIGHTS},
};
use anyhow::{Context, Result, ensure};
use longshore_schema::ids::OperationId;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Operations in one statement.
const CHUNK: u64 = 250_000;
/// By so many the room for all is reckoned.
const SAMPLE: u64 = 20_000;
/// They were made over two years, until an hour ago, microseconds.
const SPAN_US: i64 = 2 * 365 * 86_400 * 1_000_000;
const UNTIL_US: i64 = 3600 * 1_000_000;
/// Left free on the disk, for the log and for what runs beside.
const SPARE: u64 = 3 << 30;
const GIB: f64 = (1u64 << 30) as f64;

/// The tenant of every second operation; the others belong to 199 others.
pub(super) const TENANT: &str = "t0";
/// The zone of every fifth.
pub(super) const ZONE: &str = "z2";
/// Who asked for every five-hundredth.
pub(super) const PERSON: &str = "user:u7";

/// How large the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// As the product leaves them.
    Whole,
    /// Four events, two steps and a plan without its steps: for a disk that hasn't the room.
    Slim,
}

/// Copies templates into one database.
#[derive(Debug)]
pub struct Generator {
    db: DatabaseConnection,
    rows: Rows,
    /// How many it has made.
    made: u64,
}

impl Generator {
    /// Stages the templates; `all` operations will be made in the end.
    pub async fn new(url: &str, all: u64, rows: Rows) -> Result<Generator> {
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).min_connections(1).sqlx_logging(false);
        // What a crash would cost is made again. The product's own connections wait for the disk as ever.
        options.map_sqlx_postgres_opts(|it| {
            it.options([("synchronous_commit", "off"), ("search_path", "growth,public"), ("maintenance_work_mem", "512MB")])
        });
        let db = Database::connect(options).await.context("connect for generating")?;
        db.execute_unprepared("CREATE SCHEMA growth").await?;
        for table in tables() {
            db.execute_unprepared(&format!("CREATE TABLE growth.{0} (LIKE public.{0})", table.name)).await?;
        }
        let first = longshore_engine::database::now(&db).await?.0 - UNTIL_US - SPAN_US;
        let step = SPAN_US / i64::try_from(all.max(1))?;
        db.execute_unprepared(&functions(first, step)).await.context("make the functions")?;
        let mut slots = vec![];
        for (template, (_, _, weight)) in templates::collect().await?.into_iter().zip(WEIGHTS) {
            slots.extend(std::iter::repeat_n(template.operation.id, weight));
            template.insert(&db).await.context("stage a template")?;
        }
        ensure!(slots.len() == 100, "the weights make {}", slots.len());
        db.execute_unprepared("CREATE TABLE growth.slot (slot bigint PRIMARY KEY, operation_id uuid NOT NULL)").await?;
        let values: Vec<String> = slots.iter().enumerate().map(|(slot, id)| format!("({slot}, '{id}')")).collect();
        db.execute_unprepared(&format!("INSERT INTO growth.slot VALUES {}", values.join(", "))).await?;
        Ok(Generator { db, rows, made: 0 })
    }

    /// Makes operations until there are `all`, and says on standard error how far it is. Where the disk of `folder` hasn't
    /// the room it says so early.
    pub async fn fill(&mut self, all: u64, folder: Option<&Path>) -> Result<()> {
        let (started, before) = (Instant::now(), self.made);
        if let Some(folder) = folder.filter(|_| all - self.made > 2 * SAMPLE) {
            self.check_room(all, folder).await?;
        }
        let mut said = Instant::now();
        while self.made < all {
            self.chunk(CHUNK.min(all - self.made)).await?;
            if said.elapsed() > Duration::from_secs(10) {
                let rate = (self.made - before) as f64 / started.elapsed().as_secs_f64();
                let left = (all - self.made) as f64 / rate;
                eprintln!("{} of {all} operations, {rate:.0} a second, {:.0} minutes left", self.made, left / 60.0);
                said = Instant::now();
            }
        }
        Ok(())
    }

    /// What autovacuum does in time: statistics, and which pages everyone sees. And what was written is on the disk, so that
    /// nothing that is measured waits for it.
    pub async fn settle(&self) -> Result<()> {
        for table in tables() {
            self.db.execute_unprepared(&format!("VACUUM (ANALYZE) public.{}", table.name)).await?;
        }
        self.db.execute_unprepared("CHECKPOINT").await?;
        Ok(())
    }

    /// Ids of operations that were made, at equal distances.
    pub async fn ids(&self, count: u64) -> Result<Vec<OperationId>> {
        let step = (self.made / count).max(1);
        let sql = format!("SELECT growth.id(n) AS id FROM generate_series(1, {}, {step}) AS n LIMIT {count}", self.made);
        let rows = self.db.query_all_raw(Statement::from_string(self.db.get_database_backend(), sql)).await?;
        rows.iter().map(|it| Ok(OperationId(it.try_get("", "id")?))).collect()
    }

    /// Bytes of the database.
    pub async fn bytes(&self) -> Result<u64> {
        let sql = "SELECT pg_database_size(current_database()) AS bytes";
        let row = self.db.query_one_raw(Statement::from_string(self.db.get_database_backend(), sql)).await?;
        let bytes: i64 = row.context("a row")?.try_get("", "bytes")?;
        Ok(u64::try_from(bytes)?)
    }

    /// Takes the templates away and leaves.
    pub async fn end(self) -> Result<()> {
        self.db.execute_unprepared("DROP SCHEMA growth CASCADE").await?;
        Ok(self.db.close().await?)
    }

    async fn check_room(&mut self, all: u64, folder: &Path) -> Result<()> {
        let before = self.bytes().await?;
        self.chunk(SAMPLE).await?;
        let each = (self.bytes().await? - before) as f64 / SAMPLE as f64;
        let disk = rustix::fs::statvfs(folder).context("ask how much room there is")?;
        let free = disk.f_bavail * disk.f_frsize;
        let needed = each * (all - self.made) as f64 + SPARE as f64;
        eprintln!(
            "{:.1} kB an operation: {:.0} GiB are needed, {:.0} GiB are free",
            each / 1000.0,
            needed / GIB,
            free as f64 / GIB
        );
        ensure!(
            needed < free as f64,
            "{all} operations need {:.0} GiB in {}, and {:.0} GiB are free: take fewer with --operations, or --slim",
            needed / GIB,
            folder.display(),
            free as f64 / GIB
        );
        Ok(())
    }

    async fn chunk(&mut self, count: u64) -> Result<()> {
        let (first, last) = (self.made + 1, self.made + count);
        for table in tables() {
            let sql = table.copy(self.rows, first, last);
            self.db.execute_unprepared(&sql).await.with_context(|| format!("fill {}", table.name))?;
        }
        self.made = last;
        Ok(())
    }
}
