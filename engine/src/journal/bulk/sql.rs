//! The statements: each has a constant text, so that it is prepared once, and one JSON array of rows as its parameter.

use super::columns::{Column, HISTORY, Kind, MESSAGE_SEEN, OPERATION, OPERATION_CHANGE, OUTBOX, QUEUE, STEP, STEP_CHANGE};
use crate::database::{SERVER_NOW, reckoning::TOLERANCE_US};
use sea_orm::DatabaseBackend;
use std::sync::LazyLock;

/// One statement that writes everything, or fails (`m0005_unchanged.rs`) if an update's count or the time isn't as it should be.
pub(super) static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let sql = Sql::new(DatabaseBackend::Postgres);
    format!(
        "WITH new_operations AS ({}), changed_operations AS ({} RETURNING 1), new_steps AS ({}), \
         changed_steps AS ({} RETURNING 1), new_history AS ({}), new_seen AS ({}), new_outbox AS ({}), \
         confirmed AS ({}), changed_queues AS ({}) \
         SELECT longshore_unchanged((SELECT count(*) FROM changed_operations) = $10 \
         AND (SELECT count(*) FROM changed_steps) = $11 AND (SELECT count(*) FROM changed_queues) = $12, \
         abs($13 - {SERVER_NOW}) <= {TOLERANCE_US}), {SERVER_NOW} AS now, \
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

pub(super) static SQLITE: LazyLock<Sql> = LazyLock::new(|| Sql::new(DatabaseBackend::Sqlite));

/// The statement of each table; on PostgreSQL each has its own parameter's number.
pub(super) struct Sql {
    pub(super) new_operations: String,
    pub(super) operations: String,
    pub(super) new_steps: String,
    pub(super) steps: String,
    pub(super) history: String,
    pub(super) seen: String,
    pub(super) outbox: String,
    pub(super) confirmed: String,
    pub(super) queues: String,
}

/// Where a statement's rows come from.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) postgres: bool,
    pub(super) parameter: usize,
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
    pub(super) fn rows(self, columns: &[Column]) -> String {
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
    pub(super) fn value(self, (name, kind): Column) -> String {
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
