//! Rows to write, as JSON: their fields are the columns of `columns.rs`, and what guards an update.

use crate::{database::Failed, journal::loaded::Read};
use longshore_schema::tables::{history, message_seen, operation, outbox, step};
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

/// Rows to write, each a JSON array.
#[derive(Debug, Clone, Default)]
pub(in crate::journal) struct Rows {
    pub(in crate::journal) new_operations: Array,
    pub(in crate::journal) operations: Array,
    pub(in crate::journal) new_steps: Array,
    pub(in crate::journal) steps: Array,
    pub(in crate::journal) history: Array,
    pub(in crate::journal) seen: Array,
    pub(in crate::journal) outbox: Array,
    /// Ids of outbox rows that the broker confirmed.
    pub(in crate::journal) confirmed: Array,
    pub(in crate::journal) queues: Array,
}

/// A JSON array that is written row by row.
#[derive(Debug, Clone, Default)]
pub(in crate::journal) struct Array {
    json: Vec<u8>,
    /// How many.
    pub(super) rows: usize,
}

impl Array {
    /// Adds a row.
    pub(in crate::journal) fn push(&mut self, row: &impl Serialize) -> Result<(), Failed> {
        self.json.push(if self.rows == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.json, row)?;
        self.rows += 1;
        Ok(())
    }

    /// All of it.
    pub(super) fn text(mut self) -> Result<String, Failed> {
        if self.rows == 0 {
            self.json.push(b'[');
        }
        self.json.push(b']');
        String::from_utf8(self.json).map_err(|error| Failed::Internal(error.into()))
    }
}

/// Columns of `operation` that a transition may change, and what guards them.
#[derive(Serialize)]
pub(in crate::journal) struct OperationChange<'a> {
    #[serde(serialize_with = "id")]
    id: Uuid,
    state: &'a str,
    end_state: Option<&'a str>,
    waiting_for: Option<&'a str>,
    waiting_place: Option<&'a str>,
    waiting_bytes: i64,
    waiting_since: Option<i64>,
    output: Option<String>,
    fault: Option<String>,
    stop_requested: bool,
    destroy_requested: bool,
    needs_attention: bool,
    version: i64,
    #[serde(serialize_with = "bytes")]
    digest: &'a [u8],
    updated_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_holders: Option<i32>,
}

impl<'a> OperationChange<'a> {
    fn all(row: &'a operation::Model) -> OperationChange<'a> {
        OperationChange {
            id: row.id,
            state: &row.state,
            end_state: row.end_state.as_deref(),
            waiting_for: row.waiting_for.as_deref(),
            waiting_place: row.waiting_place.as_deref(),
            waiting_bytes: row.waiting_bytes,
            waiting_since: row.waiting_since,
            output: text(row.output.as_ref()),
            fault: text(row.fault.as_ref()),
            stop_requested: row.stop_requested,
            destroy_requested: row.destroy_requested,
            needs_attention: row.needs_attention,
            version: row.version,
            digest: &row.digest,
            updated_at: row.updated_at,
            read_version: None,
            read_holders: None,
        }
    }

    pub(in crate::journal) fn of(row: &'a operation::Model, read: &Read) -> OperationChange<'a> {
        let read_holders = read.ready.then_some(read.holders);
        OperationChange { read_version: Some(read.version), read_holders, ..OperationChange::all(row) }
    }
}

/// A whole row of `operation`.
#[derive(Serialize)]
pub(in crate::journal) struct OperationRow<'a> {
    #[serde(flatten)]
    changing: OperationChange<'a>,
    kind: &'a str,
    zone: &'a str,
    tenant: &'a str,
    user_name: Option<&'a str>,
    name: Option<&'a str>,
    subject: Option<&'a str>,
    store: Option<&'a str>,
    params: String,
    plan: String,
    priority: i16,
    deadline: i64,
    holders: i32,
    created_at: i64,
    last_used_at: i64,
}

impl<'a> OperationRow<'a> {
    pub(in crate::journal) fn of(row: &'a operation::Model) -> OperationRow<'a> {
        OperationRow {
            changing: OperationChange::all(row),
            kind: &row.kind,
            zone: &row.zone,
            tenant: &row.tenant,
            user_name: row.user_name.as_deref(),
            name: row.name.as_deref(),
            subject: row.subject.as_deref(),
            store: row.store.as_deref(),
            params: row.params.to_string(),
            plan: row.plan.to_string(),
            priority: row.priority,
            deadline: row.deadline,
            holders: row.holders,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

/// A row of `step`, and what guards its update.
#[derive(Serialize)]
pub(in crate::journal) struct StepRow<'a> {
    #[serde(serialize_with = "id")]
    operation_id: Uuid,
    seq: i16,
    name: &'a str,
    state: &'a str,
    way: &'a str,
    attempt: i32,
    failures: i32,
    queue: &'a str,
    priority: i16,
    worker: Option<&'a str>,
    start_before: Option<i64>,
    due_at: Option<i64>,
    done_bytes: i64,
    total_bytes: Option<i64>,
    output: Option<String>,
    fault: Option<String>,
    read_state: Option<&'a str>,
    read_attempt: Option<i32>,
    read_start_before: Option<i64>,
    read_due_at: Option<i64>,
}

impl<'a> StepRow<'a> {
    pub(in crate::journal) fn of(row: &'a step::Model, read: Option<&'a step::Model>) -> StepRow<'a> {
        StepRow {
            operation_id: row.operation_id,
            seq: row.seq,
            name: &row.name,
            state: &row.state,
            way: &row.way,
            attempt: row.attempt,
            failures: row.failures,
            queue: &row.queue,
            priority: row.priority,
            worker: row.worker.as_deref(),
            start_before: row.start_before,
            due_at: row.due_at,
            done_bytes: row.done_bytes,
            total_bytes: row.total_bytes,
            output: text(row.output.as_ref()),
            fault: text(row.fault.as_ref()),
            read_state: read.map(|it| it.state.as_str()),
            read_attempt: read.map(|it| it.attempt),
            read_start_before: read.and_then(|it| it.start_before),
            read_due_at: read.and_then(|it| it.due_at),
        }
    }
}

/// A row of `history`.
#[derive(Serialize)]
pub(in crate::journal) struct HistoryRow<'a> {
    #[serde(serialize_with = "id")]
    operation_id: Uuid,
    seq: i64,
    at: i64,
    event: &'a str,
    from_state: Option<&'a str>,
    to_state: &'a str,
    actor: &'a str,
    detail: Option<&'a str>,
    #[serde(serialize_with = "bytes")]
    digest: &'a [u8],
}

impl<'a> HistoryRow<'a> {
    pub(in crate::journal) fn of(row: &'a history::Model) -> HistoryRow<'a> {
        HistoryRow {
            operation_id: row.operation_id,
            seq: row.seq,
            at: row.at,
            event: &row.event,
            from_state: row.from_state.as_deref(),
            to_state: &row.to_state,
            actor: &row.actor,
            detail: row.detail.as_deref(),
            digest: &row.digest,
        }
    }
}

/// A row of `message_seen`.
#[derive(Serialize)]
pub(in crate::journal) struct SeenRow<'a> {
    tenant: &'a str,
    user_name: &'a str,
    message_id: &'a str,
    #[serde(serialize_with = "bytes")]
    digest: &'a [u8],
    reply: String,
    at: i64,
}

impl<'a> SeenRow<'a> {
    pub(in crate::journal) fn of(row: &'a message_seen::Model) -> SeenRow<'a> {
        SeenRow {
            tenant: &row.tenant,
            user_name: &row.user_name,
            message_id: &row.message_id,
            digest: &row.digest,
            reply: row.reply.to_string(),
            at: row.at,
        }
    }
}

/// A row of `outbox`.
#[derive(Serialize)]
pub(in crate::journal) struct OutboxRow<'a> {
    #[serde(serialize_with = "id")]
    id: Uuid,
    exchange: &'a str,
    routing_key: &'a str,
    mandatory: bool,
    properties: String,
    body: &'a str,
    expires_at: Option<i64>,
    claimed_until: i64,
}

impl<'a> OutboxRow<'a> {
    pub(in crate::journal) fn of(row: &'a outbox::Model) -> OutboxRow<'a> {
        OutboxRow {
            id: row.id,
            exchange: &row.exchange,
            routing_key: &row.routing_key,
            mandatory: row.mandatory,
            properties: row.properties.to_string(),
            body: &row.body,
            expires_at: row.expires_at,
            claimed_until: row.claimed_until,
        }
    }
}

/// A row of `outbox` that goes.
#[derive(Serialize)]
pub(in crate::journal) struct Confirmed {
    #[serde(serialize_with = "id")]
    pub(in crate::journal) id: Uuid,
}

/// A queue's change: how many more steps are in it, and the most that may be.
#[derive(Serialize)]
pub(in crate::journal) struct QueueChange<'a> {
    pub(in crate::journal) name: &'a str,
    pub(in crate::journal) change: i32,
    pub(in crate::journal) most: i32,
}

fn text(value: Option<&Value>) -> Option<String> {
    value.map(Value::to_string)
}

fn id<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&id.simple())
}

fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let hex: String =
        bytes.iter().flat_map(|it| [it >> 4, it & 15]).map(|it| char::from_digit(it.into(), 16).unwrap_or('0')).collect();
    serializer.serialize_str(&hex)
}
