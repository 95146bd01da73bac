//! A courier that counts what is published, and marks when that was and when it arrived, if somebody listens.

use super::marks::Marks;
use anyhow::Result;
use async_trait::async_trait;
use longshore_courier::{Courier, Delivery, Inbox, Parcel, Queue, Unsent};
use longshore_schema::wire::names;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Messages that were published.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// All.
    pub(super) messages: AtomicU64,
    /// Those that go through quorum queues.
    pub(super) quorum: AtomicU64,
}

/// Counts what is published.
pub(super) struct Counted {
    pub(super) counts: Arc<Counts>,
    pub(super) courier: Arc<dyn Courier>,
    /// Who listens.
    pub(super) marks: Option<Marks>,
}

#[async_trait]
impl Courier for Counted {
    async fn declare(&self, queues: &[Queue]) -> Result<()> {
        self.courier.declare(queues).await
    }

    async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>> {
        let durable = [names::COMMANDS, names::STEPS, names::REPORTS];
        self.counts.messages.fetch_add(parcels.len() as u64, Relaxed);
        self.counts.quorum.fetch_add(parcels.iter().filter(|it| durable.contains(&&*it.exchange)).count() as u64, Relaxed);
        if let Some(marks) = &self.marks {
            marks.published(&parcels);
        }
        self.courier.publish(parcels).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Inbox>> {
        let inbox = self.courier.consume(queue, prefetch).await?;
        match &self.marks {
            Some(marks) => Ok(Box::new(Listening { inbox, marks: marks.clone() })),
            None => Ok(inbox),
        }
    }

    fn link(&self) -> tokio::sync::watch::Receiver<u64> {
        self.courier.link()
    }

    fn is_local(&self) -> bool {
        self.courier.is_local()
    }

    async fn close(&self) {
        self.courier.close().await;
    }
}

/// Marks what arrives.
struct Listening {
    inbox: Box<dyn Inbox>,
    marks: Marks,
}

#[async_trait]
impl Inbox for Listening {
    async fn next(&mut self) -> Option<Delivery> {
        let delivery = self.inbox.next().await;
        delivery.iter().for_each(|it| self.marks.arrived(&it.parcel));
        delivery
    }
}
