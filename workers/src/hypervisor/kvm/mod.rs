//! KVM: a pool is a directory, a volume a qcow2 or raw file in it. Bytes go through `qemu-nbd`, names through
//! the directory's descriptor. Headers are read by us before QEMU opens anything, and only of volumes that are
//! declared to have one: a guest owns the bytes of its volume.

mod directory;
mod export;
mod format;
mod image;
mod name;
mod past;
mod publish;
mod qcow2;
mod reader;
mod scratch;
#[cfg(test)]
mod tests;
mod tied;
mod tools;
mod whole;
mod writer;

use super::{BlockRead, BlockWrite, Draft, Hypervisor};
use async_trait::async_trait;
use directory::Directory;
pub use format::of_bytes as looks_like;
use image::Backing;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::volume::{Format, Identity, Measured},
};
use reader::Reader;
pub use scratch::clean_up;
use std::path::PathBuf;
pub use tools::tools;
use writer::Writer;

/// One directory of volumes.
#[derive(Debug, Clone)]
pub struct Kvm {
    directory: PathBuf,
    backing: Backing,
}

impl Kvm {
    /// The pool in that directory, which is looked at when it is used.
    pub fn new(directory: PathBuf) -> Kvm {
        // QEMU's tools get whole paths: a relative one could look like a protocol to them.
        Kvm { directory: std::path::absolute(&directory).unwrap_or(directory), backing: Backing::Refused }
    }

    /// The same, with volumes that may lie on other files of the directory.
    pub fn with_backing_files(self) -> Kvm {
        Kvm { backing: Backing::Pool, ..self }
    }
}

#[async_trait]
impl Hypervisor for Kvm {
    async fn measure(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Measured, Fault> {
        let reader = self.open(volume, snapshot, format).await?;
        let measured = reader.measure().await?;
        Box::new(reader).close().await?;
        Ok(measured)
    }

    async fn reader(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Box<dyn BlockRead>, Fault> {
        Ok(Box::new(self.open(volume, snapshot, format).await?))
    }

    async fn check_free(&self, draft: &Draft) -> Result<(), Fault> {
        name::check_volume(&draft.volume)?;
        let (directory, draft) = (self.directory.clone(), draft.clone());
        blocking(move || publish::check_free(&directory, &draft)).await
    }

    async fn writer(&self, draft: &Draft, size: u64, format: Format) -> Result<Box<dyn BlockWrite>, Fault> {
        name::check_volume(&draft.volume)?;
        Ok(Box::new(Writer::create(self.directory.clone(), draft, size, format).await?))
    }

    async fn publish(&self, draft: &Draft) -> Result<Identity, Fault> {
        name::check_volume(&draft.volume)?;
        let (directory, draft) = (self.directory.clone(), draft.clone());
        blocking(move || publish::publish(&directory, &draft)).await
    }

    async fn discard(&self, operation: OperationId) -> Result<(), Fault> {
        let directory = self.directory.clone();
        blocking(move || publish::discard(&directory, operation)).await
    }

    async fn remove(&self, volume: &str, operation: OperationId, identity: Option<&Identity>) -> Result<(), Fault> {
        name::check_volume(volume)?;
        publish::remove(self.directory.clone(), volume, operation, identity.cloned()).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        let directory = self.directory.clone();
        blocking(move || Directory::open(&directory)?.check_writable()).await
    }
}

impl Kvm {
    async fn open(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Reader, Fault> {
        name::check_volume(volume)?;
        snapshot.map_or(Ok(()), name::check_snapshot)?;
        Reader::open(self.directory.clone(), self.backing, volume, snapshot, format).await
    }
}

/// Runs what blocks where that harms nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Fault::transient(code::INTERNAL, format!("a task of the pool's ended badly: {error}"))))
}
