//! The statements: each has a constant text, so that it is prepared once.

use super::{
    batch::LARGEST,
    columns::{
        CONFIRMED, Column, HISTORY, Kind, MESSAGE_SEEN, OPERATION, OPERATION_CHANGE, OUTBOX, QUEUE, SEEN_KEY, STEP, STEP_CHANGE,
    },
};
use crate::database::{SERVER_NOW, reckoning::TOLERANCE_US};
use std::sync::LazyLock;

/// One statement that writes everything, or fails (`m0005_one_statement.rs`) if an update's count or the time isn't as it should be.
pub(super) static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let mut first = 1;
    let mut next = |columns: &'static [Column]| {
        let rows = Rows { columns, from: From::Arrays { first } };
        first += columns.len();
        rows
    };
    let new_operations = next(OPERATION).insert("operation");
    let operations = change_operations(next(OPERATION_CHANGE));
    let new_steps = next(STEP).insert("step");
    let steps = change_steps(next(STEP_CHANGE));
    let history = next(HISTORY).insert("history");
    let seen = next(MESSAGE_SEEN).insert("message_seen");
    let outbox = next(OUTBOX).insert("outbox");
    let confirmed = delete_confirmed(next(CONFIRMED));
    let queues = change_queues(next(QUEUE));
    let [changed_operations, changed_steps, changed_queues, reckoned] = std::array::from_fn(|n| format!("${}", first + n));
    format!(
        "WITH new_operations AS ({new_operations}), changed_operations AS ({operations} RETURNING 1), new_steps AS ({new_steps}), \
         changed_steps AS ({steps} RETURNING 1), new_history AS ({history}), new_seen AS ({seen}), new_outbox AS ({outbox}), \
         confirmed AS ({confirmed}), changed_queues AS ({queues}) \
         SELECT longshore_unchanged((SELECT count(*) FROM changed_operations) = {changed_operations} \
         AND (SELECT count(*) FROM changed_steps) = {changed_steps} AND (SELECT count(*) FROM changed_queues) = {changed_queues}, \
         abs({reckoned} - {SERVER_NOW}) <= {TOLERANCE_US}), {SERVER_NOW} AS now, \
         (SELECT json_agg(json_build_object('name', name, 'unstarted', unstarted))::text FROM changed_queues) AS depths"
    )
});

/// Those of SQLite.
pub(super) static SQLITE: LazyLock<Sqlite> = LazyLock::new(|| Sqlite {
    new_operations: BySize::new(OPERATION, |rows| rows.insert("operation")),
    operations: BySize::new(OPERATION_CHANGE, change_operations),
    new_steps: BySize::new(STEP, |rows| rows.insert("step")),
    steps: BySize::new(STEP_CHANGE, change_steps),
    history: BySize::new(HISTORY, |rows| rows.insert("history")),
    seen: BySize::new(MESSAGE_SEEN, |rows| rows.insert("message_seen")),
    outbox: BySize::new(OUTBOX, |rows| rows.insert("outbox")),
    confirmed: BySize::new(CONFIRMED, delete_confirmed),
    queues: BySize::new(QUEUE, change_queues),
    look_up: BySize::new(SEEN_KEY, look_up),
});

/// Which commands were answered before.
pub(super) static POSTGRES_LOOK_UP: LazyLock<String> =
    LazyLock::new(|| look_up(Rows { columns: SEEN_KEY, from: From::Arrays { first: 1 } }));

/// The statements of each table.
pub(super) struct Sqlite {
    pub(super) new_operations: BySize,
    pub(super) operations: BySize,
    pub(super) new_steps: BySize,
    pub(super) steps: BySize,
    pub(super) history: BySize,
    pub(super) seen: BySize,
    pub(super) outbox: BySize,
    pub(super) confirmed: BySize,
    pub(super) queues: BySize,
    pub(super) look_up: BySize,
}

/// One for each power of two.
pub(super) struct BySize(Vec<String>);

impl BySize {
    fn new(columns: &'static [Column], statement: impl Fn(Rows) -> String) -> BySize {
        let sizes = (0..=LARGEST.ilog2()).map(|it| 1 << it);
        BySize(sizes.map(|size| statement(Rows { columns, from: From::Values { size } })).collect())
    }

    /// The one for so many rows: a power of two.
    pub(super) fn of(&self, rows: usize) -> &str {
        &self.0[rows.ilog2() as usize]
    }
}

/// The rows that a statement is about.
#[derive(Clone, Copy)]
struct Rows {
    columns: &'static [Column],
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    /// An array for each column, whose parameters begin with this number.
    Arrays { first: usize },
    /// So many rows of values. Those at the end may be empty: their first column is NULL.
    Values { size: usize },
}

impl Rows {
    /// They, as `n`.
    fn source(self) -> String {
        match self.from {
            From::Arrays { first } => {
                let array = |(at, (_, kind)): (usize, &Column)| format!("${}::text::{}[]", first + at, sql_type(*kind));
                let arrays: Vec<String> = self.columns.iter().enumerate().map(array).collect();
                let names: Vec<&str> = self.columns.iter().map(|it| it.0).collect();
                format!("unnest({}) AS n({})", arrays.join(", "), names.join(", "))
            }
            From::Values { size } => {
                let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
                format!("(VALUES {}) AS n", vec![row; size].join(", "))
            }
        }
    }

    /// A column's value.
    fn value(self, name: &str) -> String {
        match self.from {
            From::Arrays { .. } => format!("n.{name}"),
            From::Values { .. } => {
                let at = self.columns.iter().position(|it| it.0 == name).expect("a column of the rows");
                format!("n.column{}", at + 1)
            }
        }
    }

    /// Equal, or both NULL.
    fn same(self, column: &str, name: &str) -> String {
        let is = if let From::Arrays { .. } = self.from { "IS NOT DISTINCT FROM" } else { "IS" };
        format!("{column} {is} {}", self.value(name))
    }

    fn insert(self, table: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|it| it.0).collect();
        let values: Vec<String> = names.iter().map(|it| self.value(it)).collect();
        let filled = match self.from {
            From::Arrays { .. } => String::new(),
            From::Values { .. } => format!(" WHERE {} IS NOT NULL", values[0]),
        };
        format!("INSERT INTO {table} ({}) SELECT {} FROM {}{filled}", names.join(", "), values.join(", "), self.source())
    }

    /// Sets all columns but those of the key, which are the first, and those of the guard, which begin with `read_`.
    fn update(self, table: &str, key: usize, guard: &str) -> String {
        let changing = self.columns[key..].iter().filter(|it| !it.0.starts_with("read_"));
        let set: Vec<String> = changing.map(|it| format!("{} = {}", it.0, self.value(it.0))).collect();
        format!("UPDATE {table} AS o SET {} FROM {} WHERE {guard}", set.join(", "), self.source())
    }
}

fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::Bytes => "bytea",
        Kind::Id => "uuid",
        Kind::Int => "bigint",
        Kind::Json => "jsonb",
        Kind::Text => "text",
    }
}

fn change_operations(rows: Rows) -> String {
    let (id, version, holders) = (rows.value("id"), rows.value("read_version"), rows.value("read_holders"));
    let guard = format!("o.id = {id} AND o.version = {version} AND ({holders} IS NULL OR o.holders = {holders})");
    rows.update("operation", 1, &guard)
}

fn change_steps(rows: Rows) -> String {
    let [id, seq, state, attempt] = ["operation_id", "seq", "read_state", "read_attempt"].map(|it| rows.value(it));
    let (start, due) = (rows.same("o.start_before", "read_start_before"), rows.same("o.due_at", "read_due_at"));
    let guard =
        format!("o.operation_id = {id} AND o.seq = {seq} AND o.state = {state} AND o.attempt = {attempt} AND {start} AND {due}");
    rows.update("step", 2, &guard)
}

fn delete_confirmed(rows: Rows) -> String {
    format!("DELETE FROM outbox WHERE id IN (SELECT {} FROM {})", rows.value("id"), rows.source())
}

fn change_queues(rows: Rows) -> String {
    let [name, change, most] = ["name", "change", "most"].map(|it| rows.value(it));
    // SQLite returns columns of no other table; PostgreSQL would.
    let of = if let From::Arrays { .. } = rows.from { "o." } else { "" };
    format!(
        "UPDATE queue AS o SET unstarted = o.unstarted + {change} FROM {} \
         WHERE o.name = {name} AND ({change} <= 0 OR o.unstarted + {change} <= {most}) RETURNING {of}name, {of}unstarted",
        rows.source(),
    )
}

/// Cross join: SQLite looks each row up, instead of reading the table.
fn look_up(rows: Rows) -> String {
    let same: Vec<String> = rows.columns.iter().map(|it| format!("o.{} = {}", it.0, rows.value(it.0))).collect();
    format!("SELECT o.* FROM {} CROSS JOIN message_seen AS o WHERE {}", rows.source(), same.join(" AND "))
}
