//! What an engine remembers between two transactions: operations under way as they were committed last, so that
//! the report of their next step needs no reading, and how full the broker's queues are.
//!
//! **Invariant**: nothing is decided for good by what is remembered. A change is guarded by the version, and an
//! event that a remembered operation ignores is tried again on what the database has; after a conflict
//! everything is read.

use super::{loaded::Loaded, outflow::Outflow};
use crate::machine::State;
use longshore_schema::ids::OperationId;
use std::collections::{BTreeMap, HashMap};

/// Operations remembered at the most: a few kilobytes each.
const LIMIT: usize = 4096;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Memory {
    operations: BTreeMap<OperationId, Loaded>,
    /// Unstarted steps in each queue of the broker.
    pub(super) queues: HashMap<String, i32>,
    /// How fast they empty.
    pub(super) outflows: HashMap<String, Outflow>,
}

impl Memory {
    /// Takes an operation out: whoever has it gives it back after the commit.
    pub(super) fn take(&mut self, id: OperationId) -> Option<Loaded> {
        self.operations.remove(&id).map(|it| Loaded { remembered: true, ..it })
    }

    /// As it was last committed.
    pub(super) fn get(&self, id: OperationId) -> Option<&Loaded> {
        self.operations.get(&id)
    }

    /// Remembers what was just committed, if more is to be heard of it soon.
    pub(super) fn keep(&mut self, operations: BTreeMap<OperationId, Loaded>) {
        for (id, loaded) in operations {
            match loaded.operation.state {
                State::Allocated | State::Copying | State::Destroying(_) => drop(self.operations.insert(id, loaded)),
                State::Ready | State::Destroyed | State::Failed => drop(self.operations.remove(&id)),
            }
        }
        // The newest wait longest for their turn.
        while self.operations.len() > LIMIT {
            self.operations.pop_last();
        }
    }

    /// Forgets everything: something of it was wrong.
    pub(super) fn clear(&mut self) {
        self.operations.clear();
        self.queues.clear();
    }
}
