//! What an engine's own work touches of a database that is full of what is over: PostgreSQL counts the rows that every
//! statement reads, whoever wrote it and whatever plan it got.

use super::{Generator, Rows};
use crate::{
    bench::engine::{Bench, Load},
    services::Services,
};
use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Rows of each table that were read.
pub type Touched = BTreeMap<String, i64>;

/// Counters reach the server within seconds after the connection that did the work is closed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Generates so many operations, lets an engine do `work` of its own, and says how many rows of each table that read.
pub async fn touched_by(work: usize, generated: u64) -> Result<Touched> {
    let services = Services::from_env();
    let url = services.fresh_database().await;
    longshore_engine::database::Database::open(&url).await?.read().clone().close().await?;
    let mut generator = Generator::new(&url, generated, Rows::Whole).await?;
    generator.fill(generated, None).await?;
    generator.settle().await?;
    generator.end().await?;
    let before = counted(&url, i64::try_from(generated)?).await?;

    let load = Load { queued: 0, alone: 0, engines: 1, queue_depth: 64 };
    let bench = Bench::start(&url, Some(services.fresh_vhost().await), load).await?;
    let database = bench.database.clone();
    bench.alone(work).await?;
    bench.end().await?;
    database.read().clone().close().await?;
    let after = counted(&url, i64::try_from(generated)? + i64::try_from(work)?).await?;
    let since = |(table, rows): (String, i64)| {
        let earlier = before.get(&table).copied().unwrap_or(0);
        (table, rows - earlier)
    };
    Ok(after.into_iter().map(since).collect())
}

/// Rows of each table that were ever read, once the server knows of so many new operations.
async fn counted(url: &str, operations: i64) -> Result<Touched> {
    let until = Instant::now() + PATIENCE;
    loop {
        let db = Database::connect(url).await?;
        let (inserted, touched) = read(&db).await?;
        db.close().await?;
        if inserted >= operations {
            return Ok(touched);
        }
        ensure!(Instant::now() < until, "PostgreSQL counted {inserted} new operations, not {operations}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn read(db: &DatabaseConnection) -> Result<(i64, Touched)> {
    let sql = "SELECT relname::text AS name, n_tup_ins AS inserted, \
        coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS read FROM pg_stat_user_tables WHERE schemaname = 'public'";
    let (mut inserted, mut touched) = (0, Touched::new());
    for row in db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await? {
        let name: String = row.try_get("", "name")?;
        if name == "operation" {
            inserted = row.try_get("", "inserted").context("new operations")?;
        }
        touched.insert(name, row.try_get("", "read")?);
    }
    Ok((inserted, touched))
}
