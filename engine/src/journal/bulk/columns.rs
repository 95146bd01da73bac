//! The columns that are written for many rows at once, in the order of their tables, and those of changes.

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

/// A change of an operation: its key, what a transition may change, and what guards it. Holds come and go beside the
/// version; they meet a destroy on this row.
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

/// A change of a step: its key, what may change, and what guards it.
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
pub(super) const CONFIRMED: &[Column] = &[("id", Kind::Id)];

/// The key of `message_seen`.
pub(super) const SEEN_KEY: &[Column] = &[("tenant", Kind::Text), ("user_name", Kind::Text), ("message_id", Kind::Text)];

pub(super) const MESSAGE_SEEN: &[Column] = &[
    ("tenant", Kind::Text),
    ("user_name", Kind::Text),
    ("message_id", Kind::Text),
    ("digest", Kind::Bytes),
    ("reply", Kind::Json),
    ("at", Kind::Int),
];

/// A queue's change: how many more steps are in it, and the most that may be.
pub(super) const QUEUE: &[Column] = &[("name", Kind::Text), ("change", Kind::Int), ("most", Kind::Int)];

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
