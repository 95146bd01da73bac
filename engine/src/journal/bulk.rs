//! Writes many rows at once. PostgreSQL does all of a transaction's writing in one statement, SQLite one table after the
//! other.
//!
//! **Invariant**: an update names what was read. A row that isn't so any more isn't changed, the count of changed rows is
//! short, and nothing of the transaction stays: PostgreSQL's statement compares and fails by itself, as nobody could roll
//! it back who isn't in a transaction.

mod batch;
mod columns;
pub(super) mod rows;
mod sql;

use super::unit::SeenKey;
use crate::database::{Failed, Transaction};
use batch::Batch;
pub(super) use batch::{Arrays, Form, Values};
use columns::SEEN_KEY;
use longshore_schema::{tables::message_seen, time::Timestamp};
use rows::Rows;
use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait, Statement, Value};
use serde::Deserialize;
use sql::{BySize, POSTGRES, POSTGRES_LOOK_UP, SQLITE};

/// Broker queues after their change.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Depth {
    pub(super) name: String,
    pub(super) unstarted: i32,
}

/// What a transaction's last statement tells.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Of the queues that changed.
    pub(super) depths: Vec<Depth>,
    /// The database's time, where it is another host's.
    pub(super) now: Option<Timestamp>,
}

/// Which of these commands (tenant that it names, user, message id) were answered before.
pub(super) async fn seen(tx: &Transaction, keys: &[SeenKey]) -> Result<Vec<message_seen::Model>, Failed> {
    let backend = tx.get_database_backend();
    let statements = match backend {
        DatabaseBackend::Postgres => {
            let keys: Batch<Arrays> = batch_of(keys);
            vec![Statement::from_sql_and_values(backend, POSTGRES_LOOK_UP.as_str(), keys.arrays())]
        }
        DatabaseBackend::Sqlite | DatabaseBackend::MySql | _ => {
            let keys: Batch<Values> = batch_of(keys);
            let chunks = keys.chunks().into_iter();
            chunks.map(|(rows, values)| Statement::from_sql_and_values(backend, SQLITE.look_up.of(rows), values)).collect()
        }
    };
    let mut found = vec![];
    for statement in statements {
        found.extend(message_seen::Entity::find().from_raw_sql(statement).all(tx).await?);
    }
    Ok(found)
}

fn batch_of<F: Form>(keys: &[SeenKey]) -> Batch<F> {
    let mut batch = Batch::<F>::new(SEEN_KEY);
    for (tenant, user_name, message_id) in keys {
        batch.text(tenant).text(user_name).text(message_id);
    }
    batch
}

/// Writes all of it with one statement of PostgreSQL, the transaction's last, or says `Conflict` if something read isn't so
/// any more, or if `reckoned` isn't the database's time.
pub(super) async fn write_at_once(tx: &Transaction, rows: Rows<Arrays>, reckoned: Option<Timestamp>) -> Result<Changed, Failed> {
    let counts = [rows.operations.rows(), rows.steps.rows(), rows.queues.rows()].map(|it| Value::from(it as i64));
    let batches = [
        rows.new_operations,
        rows.operations,
        rows.new_steps,
        rows.steps,
        rows.history,
        rows.seen,
        rows.outbox,
        rows.confirmed,
        rows.queues,
    ];
    let mut values: Vec<Value> = batches.into_iter().flat_map(Batch::arrays).collect();
    values.extend(counts);
    values.push(Value::from(reckoned.map(|it| it.0)));
    let statement = Statement::from_sql_and_values(DatabaseBackend::Postgres, POSTGRES.as_str(), values);
    let row = tx.query_last(statement).await?.ok_or_else(|| anyhow::anyhow!("the statement for many rows gave none"))?;
    let depths: Option<String> = row.try_get("", "depths")?;
    let depths = depths.map(|it| serde_json::from_str(&it)).transpose()?.unwrap_or_default();
    Ok(Changed { depths, now: Some(Timestamp(row.try_get("", "now")?)) })
}

/// Writes all of it with statements of SQLite, one table after the other, or says `Conflict` if something read isn't so any
/// more.
pub(super) async fn write_one_by_one(tx: &Transaction, rows: Rows<Values>) -> Result<Changed, Failed> {
    let expected = [rows.operations.rows(), rows.steps.rows(), rows.queues.rows()];
    let run = async |by_size: &BySize, batch: Batch<Values>| -> Result<usize, Failed> {
        let mut changed = 0;
        for (rows, values) in batch.chunks() {
            let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, by_size.of(rows), values);
            changed += tx.execute_raw(statement).await?.rows_affected() as usize;
        }
        Ok(changed)
    };
    let sql = &*SQLITE;
    run(&sql.new_operations, rows.new_operations).await?;
    let operations = run(&sql.operations, rows.operations).await?;
    run(&sql.new_steps, rows.new_steps).await?;
    let steps = run(&sql.steps, rows.steps).await?;
    run(&sql.history, rows.history).await?;
    run(&sql.seen, rows.seen).await?;
    run(&sql.outbox, rows.outbox).await?;
    run(&sql.confirmed, rows.confirmed).await?;
    let mut depths = vec![];
    for (size, values) in rows.queues.chunks() {
        let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, sql.queues.of(size), values);
        for row in tx.query_all_raw(statement).await? {
            depths.push(Depth { name: row.try_get("", "name")?, unstarted: row.try_get("", "unstarted")? });
        }
    }
    let changed = [operations, steps, depths.len()];
    for ((what, expected), changed) in ["operations", "steps", "queues"].into_iter().zip(expected).zip(changed) {
        if changed != expected {
            return Err(Failed::Conflict(format!("{} of {expected} {what} changed meanwhile", expected.abs_diff(changed))));
        }
    }
    Ok(Changed { depths, now: None })
}
