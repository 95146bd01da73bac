//! Hypervisors: where volumes live. One folder for each kind, and one suite (`suite`) that every kind runs.

pub mod kvm;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::fault::Fault;
use longshore_schema::steps::volume::{Format, Identity, Measured};

/// A run of bytes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, never 0.
    pub bytes: u64,
    /// Whether all of it is known to read as zeros without reading it.
    pub zero: bool,
}

/// Names one attempt of one operation at a volume: temporary names carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The volume's final name in the pool.
    pub volume: String,
    /// The operation that makes it.
    pub operation: longshore_schema::ids::OperationId,
    /// The attempt of the writing step.
    pub attempt: u32,
}

/// One pool, seen from one worker. Volume and snapshot names come from strangers: every method refuses a
/// name that isn't a plain file name with `command.malformed`.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Size and allocation of a volume as it is, or of its snapshot. Reads no data. `volume.missing`,
    /// `volume.in-use` (somebody writes to it), `image.invalid`, `image.truncated`, `image.format-undeclared`,
    /// `snapshot.ambiguous`. `format` is what was declared:
    /// nothing is taken for a format that only its bytes suggest, since a guest owns them.
    async fn measure(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Measured, Fault>;

    /// Opens a volume or its snapshot for reading; the bytes don't change while the reader lives.
    async fn reader(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Box<dyn BlockRead>, Fault>;

    /// `volume.exists` if the draft's final name is somebody else's already: asked before anything is fetched.
    async fn check_free(&self, draft: &Draft) -> Result<(), Fault>;

    /// Makes an empty image of `size` bytes under a temporary name that carries the draft's operation and
    /// attempt, replacing one of the same attempt, and opens it for writing. It reads as zeros.
    async fn writer(&self, draft: &Draft, size: u64, format: Format) -> Result<Box<dyn BlockWrite>, Fault>;

    /// Gives a finished draft its final name, without ever replacing anything. The temporary name stays until
    /// `discard`, so that a repeated call recognises its own work. `volume.exists` if the name is somebody else's.
    async fn publish(&self, draft: &Draft) -> Result<Identity, Fault>;

    /// Removes every temporary file of the operation's, of any attempt. None there is success.
    async fn discard(&self, operation: longshore_schema::ids::OperationId) -> Result<(), Fault>;

    /// Removes the published volume if it is still the operation's own: same identity as recorded, or, if
    /// `identity` is `None`, same file as one of the operation's drafts. Absent, or somebody else's by now, is
    /// success and leaves it alone. `volume.in-use` if it is open.
    async fn remove(
        &self,
        volume: &str,
        operation: longshore_schema::ids::OperationId,
        identity: Option<&Identity>,
    ) -> Result<(), Fault>;

    /// Cheap check that the pool is there and may be written.
    async fn ping(&self) -> Result<(), Fault>;
}

/// Reads one frozen image. Many reads may be under way at once; implementations bound them.
#[async_trait]
pub trait BlockRead: Send + Sync {
    /// The image's size in bytes.
    fn size(&self) -> u64;

    /// The runs of `offset..offset + bytes`, in order, without gaps, clamped to that range. Neighbours may
    /// have the same `zero`.
    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault>;

    /// Reads exactly `bytes` from `offset`. `volume.read-failed` (with class by cause) otherwise.
    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault>;

    /// Ends the reader and gives back what it holds (export, lock, process). Dropping it does the same, later.
    async fn close(self: Box<Self>) -> Result<(), Fault>;
}

/// Writes one draft. Many writes to distinct ranges may be under way at once.
#[async_trait]
pub trait BlockWrite: Send + Sync {
    /// Writes `data` at `offset`. `volume.write-failed`, `pool.full`.
    async fn write(&self, offset: u64, data: Bytes) -> Result<(), Fault>;

    /// Makes a range read as zeros, keeping it unallocated where the format can.
    async fn zero(&self, offset: u64, bytes: u64) -> Result<(), Fault>;

    /// Makes everything durable, file size and directory entry included, and closes.
    async fn finish(self: Box<Self>) -> Result<(), Fault>;
}
