//! Carries messages between control planes, engines and workers. One small trait, two implementations:
//! `amqp` (RabbitMQ) and `embedded` (channels inside one process, with the same redelivery semantics).
//!
//! A message is a hint, never the truth: everything here may deliver twice, late, or out of order. What it
//! promises is that nothing that was confirmed is lost silently.

pub mod amqp;
pub mod embedded;
mod exchanges;
pub mod socket;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use async_trait::async_trait;
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

/// Properties of a message, a small part of AMQP's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The publisher's id for it.
    pub message_id: Option<String>,
    /// Where a reply goes: a queue's name.
    pub reply_to: Option<String>,
    /// Copied from a command to its reply.
    pub correlation_id: Option<String>,
    /// The broker's user, checked by the broker.
    pub user_id: Option<String>,
    /// 0 to 9.
    pub priority: Option<u8>,
    /// Milliseconds that it may wait in a queue.
    pub expiration_ms: Option<u64>,
    /// Whether it survives the broker's restart. True for all but progress and control.
    pub persistent: bool,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
}

/// One message with its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The exchange; empty for the default one, where the routing key is a queue's name.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Whether a message that no queue takes is an error (`Unsent::Unroutable`). Not carried: false on arrival.
    pub mandatory: bool,
    /// Its properties.
    pub properties: Properties,
    /// Its body: JSON.
    pub body: Bytes,
}

impl Parcel {
    /// AMQP's names are at most 255 bytes long. Checked before a broker sees it, since a broker's answer to a
    /// wrong one is to close the connection.
    pub(crate) fn check(&self) -> Result<(), Unsent> {
        let properties = &self.properties;
        let optional = [&properties.message_id, &properties.reply_to, &properties.correlation_id, &properties.user_id];
        let names = [&self.exchange, &self.routing_key].into_iter().chain(properties.headers.keys());
        match names.chain(optional.into_iter().flatten()).find(|name| name.len() > SHORT_LIMIT) {
            None => Ok(()),
            Some(long) => {
                let start: String = long.chars().take(40).collect();
                Err(Unsent::Unconfirmed(format!("{start:?}… is longer than the {SHORT_LIMIT} bytes that AMQP allows")))
            }
        }
    }
}

/// The most bytes of a name, an id or a header's key.
const SHORT_LIMIT: usize = 255;

/// Why a parcel is not known to have arrived. In every case it may still have arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// No queue is bound for it.
    #[error("no queue takes {exchange}/{routing_key}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The broker refused it, the connection was lost before the confirm, or there is none.
    #[error("not confirmed: {0}")]
    Unconfirmed(String),
}

/// A message that arrived.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub parcel: Parcel,
    /// Whether it was delivered before, to anyone.
    pub redelivered: bool,
    /// Settles it. Dropping it unsettled gives the message back, to be delivered again.
    pub receipt: Receipt,
}

/// Settles one delivery. A receipt of a connection that is gone does nothing: the broker delivers again.
#[derive(Debug)]
pub struct Receipt(Option<Box<dyn Settle>>);

/// What an implementation does to settle a delivery. Must not block; it may queue the work.
pub trait Settle: Send + Sync + std::fmt::Debug {
    /// Takes it out of its queue.
    fn ack(self: Box<Self>);
    /// Puts it back for another delivery.
    fn requeue(self: Box<Self>);
}

impl Receipt {
    /// A receipt that settles by this: for implementations, and for tests of those who take deliveries.
    pub fn new(settle: Box<dyn Settle>) -> Receipt {
        Receipt(Some(settle))
    }

    /// Takes the message out of its queue. Call it only after what it asked for is durable.
    pub fn ack(mut self) {
        if let Some(settle) = self.0.take() {
            settle.ack();
        }
    }

    /// Puts the message back.
    pub fn requeue(mut self) {
        if let Some(settle) = self.0.take() {
            settle.requeue();
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(settle) = self.0.take() {
            settle.requeue();
        }
    }
}

/// A queue that somebody declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// Durable, quorum, with `x-delivery-limit` and dead-lettering to `longshore.dead`; bound to
    /// `exchange` with `routing_key`.
    Durable {
        /// Its name.
        name: String,
        /// The exchange it is bound to; empty: not bound.
        exchange: String,
        /// The binding's key (`#` for all).
        routing_key: String,
    },
    /// Exclusive to this connection, classic, not durable; declared anew after every reconnect.
    Own {
        /// Its name.
        name: String,
        /// The exchange it is bound to; empty: not bound.
        exchange: String,
        /// The bindings' keys.
        routing_keys: Vec<String>,
    },
}

impl Queue {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Queue::Durable { name, .. } | Queue::Own { name, .. } => name,
        }
    }

    /// The exchange that it is bound to, and the bindings' keys; `None` if it is bound to none.
    pub(crate) fn bindings(&self) -> Option<(&str, &[String])> {
        let (exchange, keys) = match self {
            Queue::Durable { exchange, routing_key, .. } => (exchange, std::slice::from_ref(routing_key)),
            Queue::Own { exchange, routing_keys, .. } => (exchange, routing_keys.as_slice()),
        };
        (!exchange.is_empty()).then_some((exchange, keys))
    }
}

/// Messages of one queue, one by one. It survives reconnects; what was unsettled then is delivered again.
/// Dropping it ends the consumer: what it delivered and isn't settled is delivered again, and those receipts
/// do nothing any more.
#[async_trait]
pub trait Inbox: Send {
    /// The next message; `None` when the courier was closed. Cancel-safe.
    async fn next(&mut self) -> Option<Delivery>;
}

/// Carries messages. Cheap to share; every method may be called from many tasks.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Declares the exchanges of `longshore_schema::wire::names` (idempotent) and then the queues, now and after every
    /// reconnect. An error if one exists with other properties, naming it.
    async fn declare(&self, queues: &[Queue]) -> anyhow::Result<()>;

    /// Publishes all of them, many in flight, and waits for the broker's confirm of each; the answers are in
    /// the order of the parcels. A message that was returned or nacked is an error, never success. Without a
    /// connection it answers `Unconfirmed` within seconds. Once called, the parcels may be sent even if the future is dropped.
    async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>>;

    /// Starts consuming a declared queue with at most `prefetch` unsettled messages (0 counts as 1).
    async fn consume(&self, queue: &str, prefetch: u16) -> anyhow::Result<Box<dyn Inbox>>;

    /// Counts connections: odd while connected, even while not. A worker watches it to stop what it can't vouch for.
    fn link(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Whether only this process publishes, for itself and for who asks over its unix socket. With a broker, users are the broker's
    /// and may have any name.
    fn is_local(&self) -> bool;

    /// Settles what is queued, then closes. Later calls fail.
    async fn close(&self);
}

/// Connects to the broker at an `amqp://` or `amqps://` address; `name` is shown in its list of connections.
pub async fn open(url: &str, name: &str) -> anyhow::Result<Arc<dyn Courier>> {
    Ok(Arc::new(amqp::connect(url, name).await?))
}
