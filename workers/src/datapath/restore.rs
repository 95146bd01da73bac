//! `volume.write`: an object becomes a fresh image, in one pass. Zeros are left as the fresh image has them.

use super::{
    manifest::load_root,
    scan::{Scanned, Sink, scan},
    until_stopped,
};
use crate::{hypervisor::BlockWrite, lease::Lease, store::Store};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::object::Root,
};
use std::sync::Arc;

/// An object, as its `ready` names it.
pub struct Source {
    /// Where.
    pub store: Arc<dyn Store>,
    /// The object.
    pub object: OperationId,
    /// Its root.
    pub root: Root,
}

struct Image(Box<dyn BlockWrite>);

#[async_trait]
impl Sink for Image {
    async fn take(&self, offset: u64, data: Bytes) -> Result<(), Fault> {
        self.0.write(offset, data).await
    }
}

/// Writes the object into what `open` makes for its size, and finishes it. The size, and what was read.
pub async fn restore<Opening>(
    lease: &Arc<Lease>,
    source: &Source,
    open: impl FnOnce(u64) -> Opening,
) -> Result<(u64, Scanned), Fault>
where
    Opening: Future<Output = Result<Box<dyn BlockWrite>, Fault>>,
{
    let work = async {
        let root = load_root(&source.store, source.object, &source.root).await?;
        let size = root.header.virtual_size;
        lease.check()?;
        let image = Arc::new(Image(open(size).await?));
        let scanned = scan(&source.store, lease, &root, image.clone()).await?;
        let image = Arc::into_inner(image).ok_or_else(|| Fault::transient(code::INTERNAL, "the image is still being written"))?;
        lease.check()?;
        image.0.finish().await?;
        Ok((size, scanned))
    };
    until_stopped(lease, work).await
}
