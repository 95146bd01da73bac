//! Statements for many rows: each has a constant text, so that it is prepared once, and one JSON array of rows as
//! its parameter. PostgreSQL does all of a transaction's writing in one of them, SQLite one table after the other.
//!
//! **Invariant**: an update names what was read. A row that isn't so any more isn't changed, and the count that
//! comes back is short: the caller rolls back.

use super::unit::SeenKey;
use crate::database::Failed;
use longshore_schema::tables::message_seen;
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseTransaction, EntityTrait, Statement, Value};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// How a column is written in a row's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// In hexadecimal.
    Bytes,
    /// In hexadecimal, without dashes.
    Id,
    Int,
    /// As text, so that a JSON `null` isn't taken for no value.
    Json,
    Text,
}

type Column = (&'static str, Kind);

const OPERATION: &[Column] = &[
    ("id", Kind::Id),
    ("kind", Kind::Text),
    ("zone", Kind::Text),
    ("tenant", Kind::Text),
    ("user_name", Kind::Text),
    ("name", Kind::Text),
    ("subject", Kind::Text),
    ("store", Kind::Text),
    ("state", Kind::Text),
    ("end_state", Kind::Text),
    ("waiting_for", Kind::Text),
    ("waiting_place", Kind::Text),
    ("waiting_bytes", Kind::Int),
    ("waiting_since", Kind::Int),
    ("params", Kind::Json),
    ("plan", Kind::Json),
    ("output", Kind::Json),
    ("fault", Kind::Json),
    ("priority", Kind::Int),
    ("deadline", Kind::Int),
    ("stop_requested", Kind::Bool),
    ("destroy_requested", Kind::Bool),
    ("needs_attention", Kind::Bool),
    ("holders", Kind::Int),
    ("version", Kind::Int),
    ("digest", Kind::Bytes),
    ("created_at", Kind::Int),
    ("updated_at", Kind::Int),
    ("last_used_at", Kind::Int),
];

/// What a transition may change. Holds come and go beside the version; they meet a destroy on this row.
const OPERATION_CHANGE: &[&str] = &[
    "state",
    "end_state",
    "waiting_for",
    "waiting_place",
    "waiting_bytes",
    "waiting_since",
    "output",
    "fault",
    "stop_requested",
    "destroy_requested",
    "needs_attention",
    "version",
    "digest",
    "updated_at",
];

const STEP: &[Column] = &[
    ("operation_id", Kind::Id),
    ("seq", Kind::Int),
    ("name", Kind::Text),
    ("state", Kind::Text),
    ("way", Kind::Text),
    ("attempt", Kind::Int),
    ("failures", Kind::Int),
    ("queue", Kind::Text),
    ("priority", Kind::Int),
    ("worker", Kind::Text),
    ("start_before", Kind::Int),
    ("due_at", Kind::Int),
    ("done_bytes", Kind::Int),
    ("total_bytes", Kind::Int),
    ("output", Kind::Json),
    ("fault", Kind::Json),
];

const STEP_CHANGE: &[&str] =
    &["state", "way", "attempt", "failures", "worker", "start_before", "due_at", "done_bytes", "total_bytes", "output", "fault"];

const HISTORY: &[Column] = &[
    ("operation_id", Kind::Id),
    ("seq", Kind::Int),
    ("at", Kind::Int),
    ("event", Kind::Text),
    ("from_state", Kind::Text),
    ("to_state", Kind::Text),
    ("actor", Kind::Text),
    ("detail", Kind::Text),
    ("digest", Kind::Bytes),
];

const OUTBOX: &[Column] = &[
    ("id", Kind::Id),
    ("exchange", Kind::Text),
    ("routing_key", Kind::Text),
    ("mandatory", Kind::Bool),
    ("properties", Kind::Json),
    ("body", Kind::Text),
    ("expires_at", Kind::Int),
    ("claimed_until", Kind::Int),
];

const MESSAGE_SEEN: &[Column] = &[
    ("tenant", Kind::Text),
    ("user_name", Kind::Text),
    ("message_id", Kind::Text),
    ("digest", Kind::Bytes),
    ("reply", Kind::Json),
    ("at", Kind::Int),
];

const QUEUE: &[Column] = &[("name", Kind::Text), ("change", Kind::Int), ("most", Kind::Int)];

/// Rows to write, each a JSON array.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) new_operations: Array,
    pub(super) operations: Array,
    pub(super) new_steps: Array,
    pub(super) steps: Array,
    pub(super) history: Array,
    pub(super) seen: Array,
    pub(super) outbox: Array,
    /// Ids of outbox rows that the broker confirmed.
    pub(super) confirmed: Array,
    pub(super) queues: Array,
}

/// A JSON array that is written row by row.
#[derive(Debug, Clone, Default)]
pub(super) struct Array {
    json: Vec<u8>,
    rows: usize,
}

/// Broker queues after their change.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Depth {
    pub(super) name: String,
    pub(super) unstarted: i32,
}

impl Array {
    /// Adds a row.
    pub(super) fn push(&mut self, row: &impl Serialize) -> Result<(), Failed> {
        self.json.push(if self.rows == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.json, row)?;
        self.rows += 1;
        Ok(())
    }

    fn text(mut self) -> Result<String, Failed> {
        if self.rows == 0 {
            self.json.push(b'[');
        }
        self.json.push(b']');
        String::from_utf8(self.json).map_err(|error| Failed::Internal(error.into()))
    }
}

/// Writes all of it, or says `Conflict` if something read isn't so any more. The depths of the queues that changed.
pub(super) async fn write(tx: &DatabaseTransaction, rows: Rows) -> Result<Vec<Depth>, Failed> {
    let expected = [rows.operations.rows, rows.steps.rows, rows.queues.rows];
    let (changed, depths) = match tx.get_database_backend() {
        DatabaseBackend::Postgres => write_at_once(tx, rows).await?,
        DatabaseBackend::Sqlite | DatabaseBackend::MySql | _ => write_one_by_one(tx, rows).await?,
    };
    for ((what, expected), changed) in ["operations", "steps", "queues"].into_iter().zip(expected).zip(changed) {
        if changed != expected {
            return Err(Failed::Conflict(format!("{} of {expected} {what} changed meanwhile", expected.abs_diff(changed))));
        }
    }
    Ok(depths)
}

/// Which of these commands (tenant, user, message id) were answered before.
pub(super) async fn seen(tx: &DatabaseTransaction, keys: &[SeenKey]) -> Result<Vec<message_seen::Model>, Failed> {
    let backend = tx.get_database_backend();
    let mut rows = Array::default();
    for (tenant, user_name, message_id) in keys {
        rows.push(&serde_json::json!({"tenant": tenant, "user_name": user_name, "message_id": message_id}))?;
    }
    let source = Source { postgres: backend == DatabaseBackend::Postgres, parameter: 1 };
    let key = &MESSAGE_SEEN[..3];
    let same: Vec<String> = key.iter().map(|it| format!("o.{} = {}", it.0, source.value(*it))).collect();
    let sql = format!("SELECT o.* FROM {} JOIN message_seen AS o ON {}", source.rows(key), same.join(" AND "));
    let statement = Statement::from_sql_and_values(backend, sql, [Value::from(rows.text()?)]);
    Ok(message_seen::Entity::find().from_raw_sql(statement).all(tx).await?)
}

async fn write_at_once(tx: &DatabaseTransaction, rows: Rows) -> Result<([usize; 3], Vec<Depth>), Failed> {
    let arrays = [
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
    let values = arrays.into_iter().map(|it| it.text().map(Value::from)).collect::<Result<Vec<_>, _>>()?;
    let statement = Statement::from_sql_and_values(DatabaseBackend::Postgres, POSTGRES.as_str(), values);
    let row = tx.query_one_raw(statement).await?.ok_or_else(|| anyhow::anyhow!("the statement for many rows gave none"))?;
    let count = |name: &str| Ok::<_, Failed>(usize::try_from(row.try_get::<i64>("", name)?).unwrap_or(0));
    let depths: Option<String> = row.try_get("", "depths")?;
    let depths: Vec<Depth> = depths.map(|it| serde_json::from_str(&it)).transpose()?.unwrap_or_default();
    Ok(([count("operations")?, count("steps")?, depths.len()], depths))
}

async fn write_one_by_one(tx: &DatabaseTransaction, rows: Rows) -> Result<([usize; 3], Vec<Depth>), Failed> {
    let run = async |sql: &str, array: Array| -> Result<usize, Failed> {
        if array.rows == 0 {
            return Ok(0);
        }
        let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, sql, [Value::from(array.text()?)]);
        Ok(tx.execute_raw(statement).await?.rows_affected() as usize)
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
    if rows.queues.rows > 0 {
        let values = [Value::from(rows.queues.text()?)];
        let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, sql.queues.as_str(), values);
        for row in tx.query_all_raw(statement).await? {
            depths.push(Depth { name: row.try_get("", "name")?, unstarted: row.try_get("", "unstarted")? });
        }
    }
    Ok(([operations, steps, depths.len()], depths))
}

/// One statement that writes everything.
static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let sql = Sql::new(DatabaseBackend::Postgres);
    format!(
        "WITH new_operations AS ({}), changed_operations AS ({} RETURNING 1), new_steps AS ({}), \
         changed_steps AS ({} RETURNING 1), new_history AS ({}), new_seen AS ({}), new_outbox AS ({}), \
         confirmed AS ({}), changed_queues AS ({}) \
         SELECT (SELECT count(*) FROM changed_operations) AS operations, (SELECT count(*) FROM changed_steps) AS steps, \
         (SELECT json_agg(json_build_object('name', name, 'unstarted', unstarted))::text FROM changed_queues) AS depths",
        sql.new_operations,
        sql.operations,
        sql.new_steps,
        sql.steps,
        sql.history,
        sql.seen,
        sql.outbox,
        sql.confirmed,
        sql.queues
    )
});

static SQLITE: LazyLock<Sql> = LazyLock::new(|| Sql::new(DatabaseBackend::Sqlite));

/// The statement of each table; on PostgreSQL each has its own parameter's number.
struct Sql {
    new_operations: String,
    operations: String,
    new_steps: String,
    steps: String,
    history: String,
    seen: String,
    outbox: String,
    confirmed: String,
    queues: String,
}

/// Where a statement's rows come from.
#[derive(Clone, Copy)]
struct Source {
    postgres: bool,
    parameter: usize,
}

impl Sql {
    fn new(backend: DatabaseBackend) -> Sql {
        let postgres = backend == DatabaseBackend::Postgres;
        let from = |parameter| Source { postgres, parameter };
        let read = [("read_version", Kind::Int), ("read_holders", Kind::Int)];
        let read_step = [
            ("read_state", Kind::Text),
            ("read_attempt", Kind::Int),
            ("read_start_before", Kind::Int),
            ("read_due_at", Kind::Int),
        ];
        let is = if postgres { "IS NOT DISTINCT FROM" } else { "IS" };
        let (of, ofs) = (from(2), from(4));
        let operation_guard = format!(
            "o.id = {} AND o.version = {} AND ({} IS NULL OR o.holders = {})",
            of.value(("id", Kind::Id)),
            of.value(read[0]),
            of.value(read[1]),
            of.value(read[1])
        );
        let step_guard = format!(
            "o.operation_id = {} AND o.seq = {} AND o.state = {} AND o.attempt = {} AND o.start_before {is} {} AND o.due_at {is} {}",
            ofs.value(("operation_id", Kind::Id)),
            ofs.value(("seq", Kind::Int)),
            ofs.value(read_step[0]),
            ofs.value(read_step[1]),
            ofs.value(read_step[2]),
            ofs.value(read_step[3])
        );
        let ids = [("id", Kind::Id)];
        let (gone, queues) = (from(8), from(9));
        Sql {
            new_operations: from(1).insert("operation", OPERATION),
            operations: of.update("operation", OPERATION, OPERATION_CHANGE, &read, &operation_guard),
            new_steps: from(3).insert("step", STEP),
            steps: ofs.update("step", STEP, STEP_CHANGE, &read_step, &step_guard),
            history: from(5).insert("history", HISTORY),
            seen: from(6).insert("message_seen", MESSAGE_SEEN),
            outbox: from(7).insert("outbox", OUTBOX),
            confirmed: format!("DELETE FROM outbox WHERE id IN (SELECT {} FROM {})", gone.value(ids[0]), gone.rows(&ids)),
            queues: format!(
                "UPDATE queue AS o SET unstarted = o.unstarted + {change} FROM {} \
                 WHERE o.name = {} AND ({change} <= 0 OR o.unstarted + {change} <= {}) RETURNING {table}name, {table}unstarted",
                queues.rows(QUEUE),
                queues.value(QUEUE[0]),
                queues.value(QUEUE[2]),
                change = queues.value(QUEUE[1]),
                // SQLite returns columns of no other table; PostgreSQL would.
                table = if postgres { "o." } else { "" },
            ),
        }
    }
}

impl Source {
    /// The rows, as `n`.
    fn rows(self, columns: &[Column]) -> String {
        if !self.postgres {
            return "json_each(?) AS n".into();
        }
        let columns: Vec<String> = columns
            .iter()
            .map(|(name, kind)| match kind {
                Kind::Bool => format!("{name} boolean"),
                Kind::Bytes | Kind::Json | Kind::Text => format!("{name} text"),
                Kind::Id => format!("{name} uuid"),
                Kind::Int => format!("{name} bigint"),
            })
            .collect();
        format!("json_to_recordset(${}::json) AS n({})", self.parameter, columns.join(", "))
    }

    /// A column's value in a row.
    fn value(self, (name, kind): Column) -> String {
        match (self.postgres, kind) {
            (true, Kind::Bool | Kind::Id | Kind::Int | Kind::Text) => format!("n.{name}"),
            (true, Kind::Bytes) => format!("decode(n.{name}, 'hex')"),
            (true, Kind::Json) => format!("n.{name}::jsonb"),
            (false, Kind::Bytes | Kind::Id) => format!("unhex(n.value ->> '{name}')"),
            (false, Kind::Bool | Kind::Int | Kind::Json | Kind::Text) => format!("(n.value ->> '{name}')"),
        }
    }

    fn insert(self, table: &str, columns: &[Column]) -> String {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = columns.iter().map(|it| self.value(*it)).collect();
        format!("INSERT INTO {table} ({}) SELECT {} FROM {}", names.join(", "), values.join(", "), self.rows(columns))
    }

    fn update(self, table: &str, columns: &[Column], changing: &[&str], read: &[Column], guard: &str) -> String {
        let set: Vec<String> = columns
            .iter()
            .filter(|(name, _)| changing.contains(name))
            .map(|it| format!("{} = {}", it.0, self.value(*it)))
            .collect();
        let all: Vec<Column> = columns.iter().chain(read).copied().collect();
        format!("UPDATE {table} AS o SET {} FROM {} WHERE {guard}", set.join(", "), self.rows(&all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_every_table_is_written() {
        use longshore_schema::tables::{history, message_seen, operation, outbox, step};
        use sea_orm::{IdenStatic, Iterable};
        fn names<C: Iterable + IdenStatic>() -> Vec<String> {
            C::iter().map(|it| it.as_str().to_owned()).collect()
        }
        let of = |columns: &[Column]| columns.iter().map(|it| it.0.to_owned()).collect::<Vec<_>>();
        assert_eq!(of(OPERATION), names::<operation::Column>());
        assert_eq!(of(STEP), names::<step::Column>());
        assert_eq!(of(HISTORY), names::<history::Column>());
        assert_eq!(of(OUTBOX), names::<outbox::Column>());
        assert_eq!(of(MESSAGE_SEEN), names::<message_seen::Column>());
    }
}
