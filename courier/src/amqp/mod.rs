//! RabbitMQ. Two connections, one for publishing and one for consuming, so that a broker which holds back
//! publishers doesn't hold back acknowledgements; each is kept up by a supervisor of ours, since lapin's own
//! recovery doesn't bring back everything (channels closed alone, cancelled consumers).
//!
//! The consuming connection makes topology again before it counts as connected.

mod address;
mod consumer;
mod properties;
mod publisher;
mod settlements;
mod supervisor;
mod topology;

use crate::{Courier, Inbox, Parcel, Queue, Unsent};
use address::Address;
use anyhow::Context;
use async_trait::async_trait;
use publisher::Publisher;
use std::{sync::Arc, time::Duration};
use supervisor::{Link, Side};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use topology::Topology;

/// How long a call waits for a connection that is down before it gives up.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the broker may take to answer anything but a publish. Quorum queues that were just recovered answer late.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long `close` waits for what is queued.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A connection to RabbitMQ that comes back. Dropping it closes it in the background; `close` waits for what is queued.
#[derive(Debug)]
pub struct AmqpCourier {
    consuming: Link,
    publisher: Publisher,
    topology: Arc<Topology>,
    /// Ends consumers and lanes, which settle what they have; then the supervisors.
    working: CancellationToken,
    workers: TaskTracker,
    connected: CancellationToken,
    supervisors: TaskTracker,
    _stop_on_drop: [DropGuard; 2],
}

/// Connects to the broker at an `amqp://` or `amqps://` address; `name` is shown in its list of connections.
/// Fails if it can't now; a connection that is lost later is made again for ever.
pub async fn connect(url: &str, name: &str) -> anyhow::Result<AmqpCourier> {
    let address = Address::parse(url, name)?;
    let topology = Arc::new(Topology::default());
    let (working, workers) = (CancellationToken::new(), TaskTracker::new());
    let (connected, supervisors) = (CancellationToken::new(), TaskTracker::new());
    let consuming = Side::new(address.clone(), "consuming", Some(topology.clone())).start(&connected, &supervisors).await?;
    let stop_on_drop = [working.clone().drop_guard(), connected.clone().drop_guard()];
    let publishing = Side::new(address, "publishing", None).start(&connected, &supervisors).await?;
    let publisher = Publisher::start(&publishing, &working, &workers);
    Ok(AmqpCourier { consuming, publisher, topology, working, workers, connected, supervisors, _stop_on_drop: stop_on_drop })
}

#[async_trait]
impl Courier for AmqpCourier {
    async fn declare(&self, queues: &[Queue]) -> anyhow::Result<()> {
        anyhow::ensure!(!self.working.is_cancelled(), "the courier is closed");
        let connection = self.consuming.within(PATIENCE).await.context("declare queues")?;
        self.topology.declare(&connection, queues).await
    }

    async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>> {
        self.publisher.publish(parcels).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> anyhow::Result<Box<dyn Inbox>> {
        anyhow::ensure!(!self.working.is_cancelled(), "the courier is closed");
        let what = consumer::What { queue: properties::short(queue)?, prefetch: prefetch.max(1) };
        let inbox = consumer::start(what, &self.consuming, &self.topology, &self.working, &self.workers).await?;
        Ok(Box::new(inbox))
    }

    fn link(&self) -> watch::Receiver<u64> {
        self.consuming.count()
    }

    fn is_local(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.working.cancel();
        self.workers.close();
        if tokio::time::timeout(CLOSE_LIMIT, self.workers.wait()).await.is_err() {
            tracing::warn!("closed the broker's connection with messages not settled");
        }
        self.connected.cancel();
        self.supervisors.close();
        self.supervisors.wait().await;
    }
}
