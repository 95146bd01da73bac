//! What one worker is told at its start. Everything else it learns from the engine's welcome.

use longshore_schema::wire::WorkerKind;
use std::{collections::BTreeMap, time::Duration};

/// Who a worker is and how much it does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its id, unique among all workers: two with the same one refuse each other at the broker.
    pub worker: String,
    /// Its host, for `host.{host}` queues.
    pub host: String,
    /// Its zone.
    pub zone: String,
    /// Its kind.
    pub kind: WorkerKind,
    /// Tools found on the host, with versions: `qemu-img` -> `10.0.2`.
    pub tools: BTreeMap<String, String>,
    /// Long steps at once, at least 1.
    pub concurrency: u32,
    /// Short steps at once, at least 1.
    pub short_concurrency: u32,
    /// Seconds that steps under way are given to finish once the worker was asked to stop.
    pub drain_s: u32,
}

impl Config {
    /// The defaults for a worker of this kind: its id is `{host}-{kind}`.
    pub fn new(kind: WorkerKind, zone: impl Into<String>, host: impl Into<String>) -> Config {
        let host = host.into();
        Config {
            worker: format!("{host}-{}", kind.as_str()),
            host,
            zone: zone.into(),
            kind,
            tools: BTreeMap::new(),
            concurrency: 2,
            short_concurrency: 8,
            drain_s: 20,
        }
    }

    /// Unsettled messages of one step queue: as many as can be in hand at once, long and short.
    pub(crate) fn prefetch(&self) -> u16 {
        u16::try_from(self.long_slots() + self.short_slots()).unwrap_or(u16::MAX)
    }

    pub(crate) fn long_slots(&self) -> usize {
        self.concurrency.clamp(1, 10_000) as usize
    }

    pub(crate) fn short_slots(&self) -> usize {
        self.short_concurrency.clamp(1, 10_000) as usize
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s.into())
    }
}
