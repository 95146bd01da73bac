//! One handle on the hub, its inboxes and its receipts.

use super::{Shared, broker::Broker};
use crate::{Courier, Delivery, Inbox, Parcel, Queue, Receipt, Settle, Unsent};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tokio::sync::watch;

/// A connection to the hub. Dropping it, or closing it, gives its unsettled messages back and ends its own queues.
#[derive(Debug)]
pub struct EmbeddedCourier {
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    shared: Arc<Shared>,
    id: u64,
    /// Changed and read under the hub's lock only.
    closed: AtomicBool,
    link: watch::Sender<u64>,
    /// The queue of each consumer.
    consumers: Mutex<BTreeMap<u64, String>>,
}

#[derive(Debug)]
struct EmbeddedInbox {
    connection: Arc<Connection>,
    queue: String,
    consumer: u64,
    prefetch: usize,
}

#[derive(Debug)]
struct EmbeddedReceipt {
    shared: Arc<Shared>,
    queue: String,
    delivery: u64,
}

impl EmbeddedCourier {
    pub(super) fn new(shared: Arc<Shared>) -> EmbeddedCourier {
        let id = shared.broker().id();
        let (closed, link, consumers) = (AtomicBool::new(false), watch::Sender::new(1), Mutex::default());
        EmbeddedCourier { connection: Arc::new(Connection { shared, id, closed, link, consumers }) }
    }

    /// Does what a lost connection does, and what follows: unsettled messages are given back, receipts of
    /// before do nothing, own queues are empty, the link counts on, inboxes deliver again.
    pub fn reconnect(&self) {
        let connection = &self.connection;
        let open = connection.shared.change(|broker| {
            if connection.closed() {
                return false;
            }
            connection.give_back_all(broker);
            broker.clear_own(connection.id);
            true
        });
        if open {
            connection.link.send_modify(|count| *count += 2);
        }
    }
}

impl Drop for EmbeddedCourier {
    fn drop(&mut self) {
        self.connection.close();
    }
}

#[async_trait]
impl Courier for EmbeddedCourier {
    async fn declare(&self, queues: &[Queue]) -> anyhow::Result<()> {
        let connection = &self.connection;
        connection.shared.change(|broker| {
            connection.ensure_open()?;
            queues.iter().try_for_each(|queue| broker.declare(connection.id, queue))
        })
    }

    async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>> {
        self.connection.shared.change(|broker| {
            let closed = self.connection.closed().then(|| Unsent::Unconfirmed("the courier is closed".into()));
            let send = |parcel| closed.clone().map_or_else(|| broker.publish(parcel), Err);
            parcels.into_iter().map(send).collect()
        })
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> anyhow::Result<Box<dyn Inbox>> {
        let connection = self.connection.clone();
        let consumer = {
            let mut broker = connection.shared.broker();
            connection.ensure_open()?;
            broker.may_consume(connection.id, queue)?;
            let consumer = broker.id();
            connection.consumers().insert(consumer, queue.into());
            consumer
        };
        Ok(Box::new(EmbeddedInbox { connection, queue: queue.into(), consumer, prefetch: usize::from(prefetch.max(1)) }))
    }

    fn link(&self) -> watch::Receiver<u64> {
        self.connection.link.subscribe()
    }

    fn is_local(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.connection.close();
    }
}

impl Connection {
    fn closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    fn ensure_open(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.closed(), "the courier is closed");
        Ok(())
    }

    fn consumers(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In the reverse of the order in which they were made, so that what went out first is at the front again.
    fn give_back_all(&self, broker: &mut Broker) {
        self.consumers().iter().rev().for_each(|(consumer, queue)| broker.give_back_all(queue, *consumer));
    }

    fn close(&self) {
        let first = self.shared.change(|broker| {
            if self.closed.swap(true, SeqCst) {
                return false;
            }
            self.give_back_all(broker);
            broker.remove_own(self.id);
            true
        });
        if first {
            self.link.send_modify(|count| *count += 1);
        }
    }
}

#[async_trait]
impl Inbox for EmbeddedInbox {
    async fn next(&mut self) -> Option<Delivery> {
        let shared = &self.connection.shared;
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            // Before the look into the queue: what changes after the look must wake us.
            changed.as_mut().enable();
            let taken = {
                let mut broker = shared.broker();
                // Under the lock, so that nothing is taken after the connection gave everything back.
                if self.connection.closed() {
                    return None;
                }
                broker.take(&self.queue, self.consumer, self.prefetch)
            };
            if let Some((delivery, stored)) = taken {
                let receipt = EmbeddedReceipt { shared: shared.clone(), queue: self.queue.clone(), delivery };
                let (parcel, redelivered) = (stored.parcel, stored.returns > 0);
                return Some(Delivery { parcel, redelivered, receipt: Receipt::new(Box::new(receipt)) });
            }
            changed.await;
        }
    }
}

impl Drop for EmbeddedInbox {
    fn drop(&mut self) {
        self.connection.consumers().remove(&self.consumer);
        self.connection.shared.change(|broker| broker.give_back_all(&self.queue, self.consumer));
    }
}

impl Settle for EmbeddedReceipt {
    fn ack(self: Box<Self>) {
        self.shared.change(|broker| broker.settle(&self.queue, self.delivery));
    }

    fn requeue(self: Box<Self>) {
        self.shared.change(|broker| broker.give_back(&self.queue, self.delivery));
    }
}
