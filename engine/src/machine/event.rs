//! What happens to operations, and what follows from it.

use longshore_schema::{fault::Fault, step::Attempt, wire::Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happened. Stored in the history as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command was accepted.
    Accepted,
    /// An engine step was done in this transaction.
    Performed {
        /// The step.
        seq: u16,
        /// Its output.
        output: Value,
    },
    /// An engine step can't be done: it waits for a place, or fails.
    Refused {
        /// The step.
        seq: u16,
        /// Why.
        fault: Fault,
        /// The place whose space it waits for; `None`: it fails.
        waits_for: Option<String>,
    },
    /// There may be room now.
    Woken,
    /// A worker wants to start a long step.
    Started {
        /// Which attempt.
        attempt: Attempt,
        /// Who.
        worker: String,
    },
    /// An attempt ended.
    Reported {
        /// Which.
        attempt: Attempt,
        /// Who.
        worker: String,
        /// How.
        result: Outcome,
    },
    /// An attempt was taken back before anyone could start it, or nobody started it in time and nobody can any more.
    Unstarted {
        /// Which.
        attempt: Attempt,
    },
    /// An attempt may have run and will not report: its lease, or its bound, is over.
    LeaseLost {
        /// Which.
        attempt: Attempt,
    },
    /// The pause before an attempt is over.
    TimerFired {
        /// Which.
        attempt: Attempt,
    },
    /// The operation's deadline passed.
    DeadlinePassed,
    /// Someone asked to cancel.
    CancelRequested,
    /// Someone asked to destroy.
    DestroyRequested {
        /// Whether the object is held at this moment.
        held: bool,
    },
    /// The last hold went.
    HoldsGone,
    /// An operator asked to try again now.
    RetryRequested,
    /// An operator gave the undo up.
    AbandonRequested {
        /// Why.
        reason: String,
    },
}

/// What follows from a transition: stored with the new state in one transaction, done after the commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this attempt.
    Send(Attempt),
    /// Send this attempt after a pause that grows with the failures.
    Pause {
        /// Which.
        attempt: Attempt,
        /// Failures in a row, from 1; 0: nothing failed, the step just wasn't started.
        failures: u32,
    },
    /// The attempt should stop; it is over only when it reports, or when its lease is.
    Abort(Attempt),
    /// Grant the attempt to the worker that wants to start it.
    Grant(Attempt),
    /// Do this engine step in this transaction; `Performed` or `Refused` follows.
    Perform {
        /// The step's place in the plan.
        seq: u16,
    },
    /// Tell the world the new state.
    Announce,
    /// The operation is over: give back claims, holds and bytes; write down what may remain.
    Release {
        /// What may remain of steps whose undo was given up.
        remains: Vec<u16>,
    },
}

/// The event does not apply to the state: late, repeated, or senseless. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// A message about an attempt that isn't current.
    #[error("not the current attempt")]
    Stale,
    /// The point of no return is behind.
    #[error("past the point of no return")]
    TooLate,
    /// The state doesn't allow it, or it is so already.
    #[error("does not apply in this state")]
    NoEffect,
}
