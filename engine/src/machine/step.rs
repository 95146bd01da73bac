//! Where one step of an operation is.

use crate::{
    machine::End,
    plan::{Planned, UndoWhen},
};
use longshore_schema::{fault::Fault, step::Way};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A step's state with its counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    /// Where it is.
    pub state: StepState,
    /// The number of the last attempt that was sent; 0: none.
    pub n: u32,
    /// Failures in a row.
    pub failures: u32,
    /// The last fault.
    pub fault: Option<Fault>,
    /// What it reported when it was done; kept while it is undone, since its undo may need it.
    pub output: Option<Value>,
}

/// Where a step is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Never sent.
    #[default]
    Planned,
    /// Its attempt waits in the database or in the broker, or a worker does a short step.
    Sent {
        /// Which way.
        way: Way,
    },
    /// A worker was granted the attempt and holds its lease.
    Running {
        /// Which way.
        way: Way,
        /// Who.
        worker: String,
    },
    /// The next attempt is sent when its timer fires.
    Resting {
        /// Which way.
        way: Way,
    },
    /// Done.
    Done,
    /// It won't be tried again, and may have run in part.
    Faulted,
    /// Nothing of it is left.
    Undone,
    /// Its undo was given up: something may be left.
    Abandoned,
}

impl StepState {
    /// Whether a worker has an attempt of it, or will have.
    pub fn is_out(&self) -> bool {
        match self {
            StepState::Sent { .. } | StepState::Running { .. } => true,
            StepState::Planned
            | StepState::Resting { .. }
            | StepState::Done
            | StepState::Faulted
            | StepState::Undone
            | StepState::Abandoned => false,
        }
    }

    /// Whether there is nothing to undo.
    pub fn is_clean(&self) -> bool {
        match self {
            StepState::Planned | StepState::Undone | StepState::Abandoned => true,
            StepState::Sent { .. }
            | StepState::Running { .. }
            | StepState::Resting { .. }
            | StepState::Done
            | StepState::Faulted => false,
        }
    }

    /// Which way its attempt goes.
    pub fn way(&self) -> Option<Way> {
        match self {
            StepState::Sent { way } | StepState::Running { way, .. } | StepState::Resting { way } => Some(*way),
            StepState::Planned | StepState::Done | StepState::Faulted | StepState::Undone | StepState::Abandoned => None,
        }
    }
}

impl Planned {
    /// Whether something has to be done to take it back on the way to `end`.
    pub fn needs_undo(&self, end: End) -> bool {
        match (&self.undo, end) {
            (None, _) => false,
            (Some(undo), End::Failed) => matches!(undo.when, UndoWhen::Always | UndoWhen::NeverReady),
            (Some(undo), End::Destroyed) => undo.when == UndoWhen::Always,
        }
    }
}
