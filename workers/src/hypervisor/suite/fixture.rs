//! What a kind of hypervisor brings to the suite.

use crate::hypervisor::Hypervisor;
use async_trait::async_trait;
use longshore_schema::steps::volume::Format;

/// A fresh pool of one kind.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The pool through our code.
    fn hypervisor(&self) -> &dyn Hypervisor;

    /// The format of what is written here.
    fn format(&self) -> Format;

    /// Makes a volume without our code: zeros, but for these pieces.
    async fn make(&self, volume: &str, size: u64, pieces: &[(u64, Vec<u8>)]);

    /// Takes a snapshot without our code; false if this kind has none of volumes in this format.
    async fn snapshot(&self, volume: &str, snapshot: &str) -> bool;

    /// Changes a volume without our code, as a guest would; false if it was refused because it is in use.
    async fn change(&self, volume: &str, offset: u64, data: &[u8]) -> bool;

    /// Opens a volume for writing without our code, and keeps it open until the result is dropped.
    async fn open(&self, volume: &str) -> Box<dyn Send>;

    /// The whole content of a volume, without our code.
    async fn content(&self, volume: &str) -> Vec<u8>;

    /// The names of all that is in the pool, temporary ones too, sorted.
    async fn names(&self) -> Vec<String>;
}
