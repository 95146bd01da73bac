//! Messages over channels inside one process, with the broker's semantics: the same exchanges, confirms,
//! redelivery, limits and dead letters, so that the same suite runs on both.
//!
//! Nothing here outlives the process. The database is the truth: after a restart its sweep sends again what
//! still matters.

mod broker;
mod chaos;
mod connection;
mod queue;
mod route;

pub use chaos::{Chaos, Mischief};
pub use connection::EmbeddedCourier;

use broker::Broker;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The exchanges and queues that the couriers of one process share. A clone is the same hub.
#[derive(Debug, Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: Mutex<Broker>,
    /// Something changed that may let an inbox deliver.
    changed: Notify,
}

impl Embedded {
    /// An empty hub that keeps every promise as well as it can be kept.
    pub fn new() -> Embedded {
        Embedded::with(None)
    }

    /// A hub that also does what a broker is allowed to do on a bad day.
    pub fn with_chaos(chaos: Chaos) -> Embedded {
        Embedded::with(Some(chaos))
    }

    fn with(chaos: Option<Chaos>) -> Embedded {
        Embedded { shared: Arc::new(Shared { broker: Mutex::new(Broker::new(chaos)), changed: Notify::new() }) }
    }

    /// What of that it has done so far; nothing without chaos.
    pub fn mischief(&self) -> Mischief {
        self.shared.broker().mischief()
    }

    /// A handle of its own, as a connection is: what it holds unsettled, and its own queues, end with it.
    pub fn courier(&self) -> EmbeddedCourier {
        EmbeddedCourier::new(self.shared.clone())
    }
}

impl Default for Embedded {
    fn default() -> Embedded {
        Embedded::new()
    }
}

impl Shared {
    /// Each change under the lock is whole, so a panic elsewhere leaves nothing half done.
    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the broker, then wakes every inbox that waits.
    fn change<T>(&self, with: impl FnOnce(&mut Broker) -> T) -> T {
        let result = with(&mut self.broker());
        self.changed.notify_waiters();
        result
    }
}

#[cfg(test)]
mod tests;
