//! What an engine remembers between two transactions: operations under way as they were committed last, so that
//! the report of their next step needs no reading, and how full the broker's queues are.
//!
//! **Invariant**: nothing is decided for good by what is remembered. A change is guarded by the version, and an
//! event that a remembered operation ignores is tried again on what the database has; after a conflict
//! everything is read, and an error of ours is one if anything was remembered.

use super::{loaded::Loaded, outflow::Outflow};
use crate::{
    database::{Clock, Transaction, reckoning::Reckoning},
    machine::State,
};
use longshore_schema::{ids::OperationId, time::Timestamp};
use sea_orm::DbErr;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

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
    /// Queues for which nothing waited in the database when it was looked for last; another engine may have added to it.
    pub(super) waited_for_by_none: HashSet<String>,
    pub(super) time: Reckoning,
}

/// The time of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Timestamp,
    /// It wasn't read from the database, which has to compare it with its own.
    pub(super) reckoned: bool,
}

impl Memory {
    /// The time of a transaction that begins.
    pub(super) async fn now(&mut self, clock: &Clock, tx: &Transaction) -> Result<Now, DbErr> {
        if let Clock::Server = clock
            && let Some(at) = self.time.at(Instant::now())
        {
            return Ok(Now { at, reckoned: true });
        }
        if let Clock::Host = clock {
            // Whoever else writes is waited for here, not after the time was taken.
            tx.begun().await?;
        }
        let at = clock.now(tx).await?;
        self.time.read(at, Instant::now());
        Ok(Now { at, reckoned: false })
    }

    /// As if the database had just told this time.
    #[cfg(feature = "simulation")]
    pub fn believe(&mut self, now: Timestamp) {
        self.time.read(now, Instant::now());
    }

    /// Takes an operation out: whoever has it gives it back after the commit.
    pub(super) fn take(&mut self, id: OperationId) -> Option<Loaded> {
        self.operations.remove(&id)?.remembered()
    }

    /// Whether anything is remembered that may not be so any more.
    pub(super) fn has_operations(&self) -> bool {
        !self.operations.is_empty()
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
        self.waited_for_by_none.clear();
        self.time.forget();
    }
}
