//! The columns that are written for many rows at once, in the order of their tables, and those of changes: their tables'
//! keys, what may change, and, with `read_` in front, what was read of a column, which guards the change.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Bytes,
    Id,
    Int,
    Json,
    Text,
}

/// A name and a kind.
pub(super) type Column = (&'static str, Kind);

pub(super) const OPERATION: &[Column] = &[
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

/// A change of an operation. Holds come and go beside the version; they meet a destroy on this row.
pub(super) const OPERATION_CHANGE: &[Column] = &[
    ("id", Kind::Id),
    ("state", Kind::Text),
    ("end_state", Kind::Text),
    ("waiting_for", Kind::Text),
    ("waiting_place", Kind::Text),
    ("waiting_bytes", Kind::Int),
    ("waiting_since", Kind::Int),
    ("output", Kind::Json),
    ("fault", Kind::Json),
    ("stop_requested", Kind::Bool),
    ("destroy_requested", Kind::Bool),
    ("needs_attention", Kind::Bool),
    ("version", Kind::Int),
    ("digest", Kind::Bytes),
    ("updated_at", Kind::Int),
    ("read_version", Kind::Int),
    ("read_holders", Kind::Int),
];

pub(super) const STEP: &[Column] = &[
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

/// A change of a step.
pub(super) const STEP_CHANGE: &[Column] = &[
    ("operation_id", Kind::Id),
    ("seq", Kind::Int),
    ("state", Kind::Text),
    ("way", Kind::Text),
    ("attempt", Kind::Int),
    ("failures", Kind::Int),
    ("worker", Kind::Text),
    ("start_before", Kind::Int),
    ("due_at", Kind::Int),
    ("done_bytes", Kind::Int),
    ("total_bytes", Kind::Int),
    ("output", Kind::Json),
    ("fault", Kind::Json),
    ("read_state", Kind::Text),
    ("read_attempt", Kind::Int),
    ("read_start_before", Kind::Int),
    ("read_due_at", Kind::Int),
];

pub(super) const HISTORY: &[Column] = &[
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

pub(super) const OUTBOX: &[Column] = &[
    ("id", Kind::Id),
    ("exchange", Kind::Text),
    ("routing_key", Kind::Text),
    ("mandatory", Kind::Bool),
    ("properties", Kind::Json),
    ("body", Kind::Text),
    ("expires_at", Kind::Int),
    ("claimed_until", Kind::Int),
];

/// A row of the outbox that goes.
pub(super) const CONFIRMED: &[Column] = OUTBOX.split_at(1).0;

pub(super) const MESSAGE_SEEN: &[Column] = &[
    ("tenant", Kind::Text),
    ("user_name", Kind::Text),
    ("message_id", Kind::Text),
    ("digest", Kind::Bytes),
    ("reply", Kind::Json),
    ("at", Kind::Int),
];

/// The key of `message_seen`.
pub(super) const SEEN_KEY: &[Column] = MESSAGE_SEEN.split_at(3).0;

/// A queue's change: how many more steps are in it, and the most that may be.
pub(super) const QUEUE: &[Column] = &[("name", Kind::Text), ("change", Kind::Int), ("most", Kind::Int)];

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_schema::tables::{history, message_seen, operation, outbox, step};
    use sea_orm::{IdenStatic, Iterable};

    fn of_table<C: Iterable + IdenStatic>() -> Vec<&'static str> {
        C::iter().map(|it| it.as_str()).collect()
    }

    fn names(columns: &[Column]) -> Vec<&'static str> {
        columns.iter().map(|it| it.0).collect()
    }

    #[test]
    fn every_column_of_every_table_is_written() {
        assert_eq!(names(OPERATION), of_table::<operation::Column>());
        assert_eq!(names(STEP), of_table::<step::Column>());
        assert_eq!(names(HISTORY), of_table::<history::Column>());
        assert_eq!(names(OUTBOX), of_table::<outbox::Column>());
        assert_eq!(names(MESSAGE_SEEN), of_table::<message_seen::Column>());
    }

    #[test]
    fn rows_are_found_by_their_tables_keys() {
        assert_eq!(names(CONFIRMED), of_table::<outbox::PrimaryKey>());
        assert_eq!(names(SEEN_KEY), of_table::<message_seen::PrimaryKey>());
        assert_eq!(names(&OPERATION_CHANGE[..1]), of_table::<operation::PrimaryKey>());
        assert_eq!(names(&STEP_CHANGE[..2]), of_table::<step::PrimaryKey>());
    }

    #[test]
    fn what_changes_and_what_guards_it_are_columns_of_the_table_and_of_its_kinds() {
        for (changes, table) in [(OPERATION_CHANGE, OPERATION), (STEP_CHANGE, STEP)] {
            for (name, kind) in changes {
                let column = (name.strip_prefix("read_").unwrap_or(name), *kind);
                assert!(table.contains(&column), "{name} {kind:?}");
            }
        }
    }
}
