//! The data path between a volume and a store: bounded in memory, on all processors, resumable, every digest
//! checked. `format` is bytes and arithmetic; `copy`, `restore` and `verify` are the three long ways through it;
//! `commit` has the short steps around them. The format is specified in `docs/store-format.md`.

pub mod codec;
pub mod commit;
pub mod copy;
pub mod counts;
pub mod fetch;
pub mod finish;
pub mod format;
pub mod hash;
pub mod lost;
pub mod manifest;
pub mod object;
pub mod pack;
pub mod pass_on;
pub mod process;
pub mod read;
pub mod readback;
pub mod restore;
pub mod resume;
pub mod scan;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod unfinished;
pub mod verify;
pub mod write;

use crate::{lease::Lease, store::Store};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
};
use serde::Deserialize;
use std::sync::Arc;

/// What a copy does at once, and how hard it tries. The defaults were chosen by measurement: `docs/decisions/0025`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tuning {
    /// zstd's level.
    pub level: i32,
    /// A pack is sealed once its frames have this many bytes; at most what `longshore_schema::bound` counts with.
    pub pack_bytes: usize,
    /// Packs on their way to the store at the same time.
    pub puts: usize,
    /// Spans that are read or processed at the same time.
    pub spans: usize,
    /// Entries of a manifest page. The store format has `FANOUT`: what has others is measured, and is no object to any reader.
    pub fanout: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { level: 1, pack_bytes: 32 << 20, puts: 4, spans: 8, fanout: format::shape::FANOUT }
    }
}

/// One attempt's work at one object in one store.
#[derive(Clone)]
pub struct Work {
    /// Where.
    pub store: Arc<dyn Store>,
    /// For how long.
    pub lease: Arc<Lease>,
    /// The object that is made.
    pub operation: OperationId,
    /// The attempt that makes it.
    pub attempt: u32,
}

/// Runs `work` until it ends or the lease does, whichever comes first.
pub async fn until_stopped<T>(lease: &Lease, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::select! {
        biased;
        fault = lease.stopped() => Err(fault),
        ended = work => ended,
    }
}

/// Runs what needs the processor for long away from the threads that wait for the network.
pub async fn on_processor<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Fault::transient(code::INTERNAL, format!("a task of the data path died: {error}"))))
}
