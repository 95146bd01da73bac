//! Stores: where snapshots and templates live. A backend is one file; decorators (limits, faults) are
//! stores too, and one suite (`suite`) runs on every one of them.
//!
//! Keys are relative to the store's prefix, use `/`, and match `[a-zA-Z0-9._/-]+` without segments that are
//! empty or begin with a dot. Others are refused with `command.malformed`, and never listed.

pub mod attached;
mod content_range;
pub mod counted;
pub mod description;
pub mod file;
#[cfg(any(test, feature = "suite"))]
pub mod flaky;
pub mod key;
pub mod open;
pub mod probe;
#[cfg(test)]
mod responder;
mod retry;
pub mod s3;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
pub mod swift;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use longshore_schema::fault::Fault;
use std::ops::Range;

/// How much `Store::unfinished` tells at once.
pub const MOST_UNFINISHED: usize = 10_000;

/// Something found in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, relative to the store's prefix.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written, in milliseconds since 1970 by the store's own clock.
    pub modified_ms: i64,
}

/// How `Store::put` treats a key that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Never replace: an existing key is reported as `Put::Existed`. Where the store can't do it in one
    /// atomic request (see `probe`), it is a check followed by a put: a second line of defence, never the fence.
    Create,
    /// Write it, whatever was there.
    Replace,
}

/// What `Store::put` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The key now holds the body.
    Written,
    /// The key existed (only with `PutMode::Create`); it was left alone.
    Existed,
}

/// One store, seen from one worker. Faults carry their class: `store.unavailable` is transient (the backend
/// has already tried again by itself, a few times and briefly); `store.denied`, `store.missing` and
/// `object.missing` are permanent; `store.full` is transient.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes `body` at `key`, all or nothing: on success it is durable and whole, and a reader never sees a
    /// part of it. After a fault the key may or may not hold the body. The body's digest is checked on the way
    /// where the store can do that (Content-MD5, checksum, or read-back by the caller).
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault>;

    /// Reads exactly `range` of the object. `object.missing` if there is no such key, or if it is shorter.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault>;

    /// The object's length, or `None` if there is no such key.
    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault>;

    /// Everything whose key starts with `prefix`, in no promised order, page by page.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>>;

    /// Removes the key and returns only when the store says that it is gone. An absent key is success.
    async fn delete(&self, key: &str) -> Result<(), Fault>;

    /// What puts that didn't end left of keys that start with `prefix`: the keys that were meant, with the bytes that are
    /// there. It is never read or listed otherwise, and a put that is under way is among it: who removes it must know
    /// that its writer is no more. At most `MOST_UNFINISHED`; with those removed, a later call has the rest.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<Entry>, Fault>;

    /// Removes all that is unfinished of this key, and returns only when the store says that it is gone. Who should be
    /// writing it still fails to finish it.
    async fn discard_unfinished(&self, key: &str) -> Result<(), Fault>;

    /// Cheap check that the store answers and lets us in.
    async fn ping(&self) -> Result<(), Fault>;
}
