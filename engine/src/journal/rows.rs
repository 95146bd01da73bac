//! Between rows and the machine's operation.

use crate::{
    machine::{End, Operation, State, StepState, Track},
    mutant::{self, Mutant},
    plan::{Plan, Work},
};
use anyhow::{Context, anyhow};
use longshore_schema::{
    fault::Fault,
    ids::OperationId,
    step::Way,
    tables::{operation, step},
};
use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the database knows about a step beside what the machine decides by.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delivery {
    /// A worker never starts it later; `None` while it waits in the database to be sent.
    pub start_before: Option<i64>,
    /// When the engine acts on it.
    pub due_at: Option<i64>,
    /// Bytes done.
    pub done_bytes: i64,
    /// Bytes in all.
    pub total_bytes: Option<i64>,
}

/// The state's word.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Allocated => "allocated",
        State::Copying => "copying",
        State::Ready => "ready",
        State::Destroying(_) => "destroying",
        State::Destroyed => "destroyed",
        State::Failed => "failed",
    }
}

/// Where Destroying leads.
fn end_name(end: End) -> &'static str {
    match end {
        End::Destroyed => "destroyed",
        End::Failed => "failed",
    }
}

fn state_of(row: &operation::Model) -> anyhow::Result<State> {
    Ok(match (row.state.as_str(), row.end_state.as_deref()) {
        ("allocated", _) => State::Allocated,
        ("copying", _) => State::Copying,
        ("ready", _) => State::Ready,
        ("destroying", Some("destroyed")) => State::Destroying(End::Destroyed),
        ("destroying", Some("failed")) => State::Destroying(End::Failed),
        ("destroyed", _) => State::Destroyed,
        ("failed", _) => State::Failed,
        (other, end) => return Err(anyhow!("operation {} is in state {other} {end:?}, which this version doesn't know", row.id)),
    })
}

/// A word of a unit enum, and back.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

fn from_word<T: for<'de> Deserialize<'de>>(text: &str) -> anyhow::Result<T> {
    serde_json::from_value(Value::String(text.to_owned())).with_context(|| format!("read `{text}`"))
}

fn from_json<T: for<'de> Deserialize<'de>>(what: &str, value: &Value) -> anyhow::Result<T> {
    T::deserialize(value).with_context(|| format!("read the operation's {what}"))
}

/// The machine's operation from its rows.
pub fn operation_of(row: &operation::Model, steps: &[step::Model]) -> anyhow::Result<Operation> {
    let plan: Plan = from_json("plan", &row.plan)?;
    let mut operation = Operation::new(OperationId(row.id), plan);
    operation.state = state_of(row)?;
    operation.waiting_for = row.waiting_place.clone();
    operation.fault = row.fault.as_ref().map(|it| from_json::<Fault>("fault", it)).transpose()?;
    if row.stop_requested {
        operation.stop = operation.fault.take();
    }
    operation.output = row.output.clone();
    operation.destroy_requested = row.destroy_requested;
    operation.needs_attention = row.needs_attention;
    for step in steps {
        let seq = usize::try_from(step.seq)?;
        let track = operation.steps.get_mut(seq).with_context(|| format!("operation {} has no step {seq}", row.id))?;
        *track = track_of(step)?;
    }
    Ok(operation)
}

fn track_of(row: &step::Model) -> anyhow::Result<Track> {
    let way: Way = from_word(&row.way)?;
    let state = match row.state.as_str() {
        "planned" => StepState::Planned,
        "sent" => StepState::Sent { way },
        "running" => StepState::Running { way, worker: row.worker.clone().unwrap_or_default() },
        "resting" => StepState::Resting { way },
        "done" => StepState::Done,
        "faulted" => StepState::Faulted,
        "undone" => StepState::Undone,
        "abandoned" => StepState::Abandoned,
        other => return Err(anyhow!("a step is in state {other}, which this version doesn't know")),
    };
    let fault = row.fault.as_ref().map(|it| from_json::<Fault>("fault", it)).transpose()?;
    Ok(Track { state, n: u32::try_from(row.attempt)?, failures: u32::try_from(row.failures)?, fault, output: row.output.clone() })
}

/// What the database knows about a step.
pub fn delivery_of(row: &step::Model) -> Delivery {
    Delivery { start_before: row.start_before, due_at: row.due_at, done_bytes: row.done_bytes, total_bytes: row.total_bytes }
}

/// Writes the machine's decisions into the operation's row.
pub fn put_operation(row: &mut operation::Model, operation: &Operation) -> anyhow::Result<()> {
    row.state = state_name(operation.state).to_owned();
    row.end_state = match operation.state {
        State::Destroying(end) => Some(end_name(end).to_owned()),
        State::Allocated | State::Copying | State::Ready | State::Destroyed | State::Failed => None,
    };
    row.stop_requested = operation.stop.is_some();
    row.fault = operation.stop.as_ref().or(operation.fault.as_ref()).map(serde_json::to_value).transpose()?;
    row.output = operation.output.clone();
    row.destroy_requested = operation.destroy_requested;
    row.needs_attention = operation.needs_attention && !mutant::is(Mutant::NeverAttention);
    row.waiting_place = operation.waiting_for.clone();
    Ok(())
}

/// A step's row.
pub fn step_row(operation: &Operation, seq: usize, delivery: &Delivery, priority: i16) -> anyhow::Result<step::Model> {
    let (planned, track) = (&operation.plan.steps[seq], &operation.steps[seq]);
    let (state, worker) = match &track.state {
        StepState::Planned => ("planned", None),
        StepState::Sent { .. } => ("sent", None),
        StepState::Running { worker, .. } => ("running", Some(worker.clone())),
        StepState::Resting { .. } => ("resting", None),
        StepState::Done => ("done", None),
        StepState::Faulted => ("faulted", None),
        StepState::Undone => ("undone", None),
        StepState::Abandoned => ("abandoned", None),
    };
    let queue = match &planned.work {
        Work::Engine(_) => String::new(),
        Work::Worker(call) => call.queue.clone(),
    };
    Ok(step::Model {
        operation_id: operation.id.0,
        seq: i16::try_from(seq)?,
        name: planned.name.clone(),
        state: state.to_owned(),
        way: word(track.state.way().unwrap_or(Way::Do)),
        attempt: i32::try_from(track.n)?,
        failures: i32::try_from(track.failures)?,
        queue,
        priority,
        worker,
        start_before: delivery.start_before,
        due_at: delivery.due_at,
        done_bytes: delivery.done_bytes,
        total_bytes: delivery.total_bytes,
        output: track.output.clone(),
        fault: track.fault.as_ref().map(serde_json::to_value).transpose()?,
    })
}

/// All columns set, for insert and update.
pub fn all_set(row: operation::Model) -> operation::ActiveModel {
    operation::ActiveModel {
        id: Set(row.id),
        kind: Set(row.kind),
        zone: Set(row.zone),
        tenant: Set(row.tenant),
        user_name: Set(row.user_name),
        name: Set(row.name),
        subject: Set(row.subject),
        store: Set(row.store),
        state: Set(row.state),
        end_state: Set(row.end_state),
        waiting_for: Set(row.waiting_for),
        waiting_place: Set(row.waiting_place),
        waiting_bytes: Set(row.waiting_bytes),
        waiting_since: Set(row.waiting_since),
        params: Set(row.params),
        plan: Set(row.plan),
        output: Set(row.output),
        fault: Set(row.fault),
        priority: Set(row.priority),
        deadline: Set(row.deadline),
        stop_requested: Set(row.stop_requested),
        destroy_requested: Set(row.destroy_requested),
        needs_attention: Set(row.needs_attention),
        holders: Set(row.holders),
        version: Set(row.version),
        digest: Set(row.digest),
        created_at: Set(row.created_at),
        updated_at: Set(row.updated_at),
        last_used_at: Set(row.last_used_at),
    }
}
