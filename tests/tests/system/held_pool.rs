//! A pool whose volumes are read up to a point only, until they are let go: for what happens in the middle of a copy.

use bytes::Bytes;
use longshore_schema::{
    fault::Fault,
    ids::OperationId,
    site::{Pool, Store},
    steps::volume::{Format, Identity, Measured},
};
use longshore_workers::{
    hypervisor::{BlockRead, BlockWrite, Draft, Extent, Hypervisor},
    opener::HostOpener,
    reach::Opener,
    steps::OpenStore,
};
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Where reading a volume stops until it is let go: far enough that a pack was stored, not so far that all was read.
const HELD: u64 = 36 << 20;

/// Opens pools whose volumes are read up to `HELD` only, until the gate opens.
pub(crate) struct Holding(pub(crate) Arc<Gate>);

/// Where the readers wait.
#[derive(Default)]
pub(crate) struct Gate {
    reached: Notify,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Resolves when a reader waits.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// How many reads wait.
    pub(crate) fn waiting(&self) -> usize {
        self.open.receiver_count()
    }

    /// Lets all go on, those that come later too.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

struct HeldPool(Arc<dyn Hypervisor>, Arc<Gate>);

struct HeldReader(Box<dyn BlockRead>, Arc<Gate>);

#[async_trait::async_trait]
impl Opener for Holding {
    async fn pool(&self, pool: &Pool) -> Result<Arc<dyn Hypervisor>, Fault> {
        Ok(Arc::new(HeldPool(HostOpener.pool(pool).await?, self.0.clone())))
    }

    async fn store(&self, store: &Store, incarnation: uuid::Uuid) -> Result<OpenStore, Fault> {
        HostOpener.store(store, incarnation).await
    }
}

#[async_trait::async_trait]
impl Hypervisor for HeldPool {
    async fn measure(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Measured, Fault> {
        self.0.measure(volume, snapshot, format).await
    }

    async fn reader(&self, volume: &str, snapshot: Option<&str>, format: Option<Format>) -> Result<Box<dyn BlockRead>, Fault> {
        let reader = self.0.reader(volume, snapshot, format).await?;
        Ok(Box::new(HeldReader(reader, self.1.clone())))
    }

    async fn check_free(&self, draft: &Draft) -> Result<(), Fault> {
        self.0.check_free(draft).await
    }

    async fn writer(&self, draft: &Draft, size: u64, format: Format) -> Result<Box<dyn BlockWrite>, Fault> {
        self.0.writer(draft, size, format).await
    }

    async fn publish(&self, draft: &Draft) -> Result<Identity, Fault> {
        self.0.publish(draft).await
    }

    async fn discard(&self, operation: OperationId) -> Result<(), Fault> {
        self.0.discard(operation).await
    }

    async fn remove(&self, volume: &str, operation: OperationId, identity: Option<&Identity>) -> Result<(), Fault> {
        self.0.remove(volume, operation, identity).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.0.ping().await
    }
}

#[async_trait::async_trait]
impl BlockRead for HeldReader {
    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        self.0.extents(offset, bytes).await
    }

    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        if offset >= HELD {
            self.1.reached.notify_one();
            let mut open = self.1.open.subscribe();
            open.wait_for(|open| *open).await.unwrap();
        }
        self.0.read(offset, bytes).await
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        self.0.close().await
    }
}
