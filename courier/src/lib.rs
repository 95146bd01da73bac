//! Carries messages between control planes, engines and workers. One small trait, two implementations:
//! `amqp` (RabbitMQ) and `embedded` (channels inside one process, with the same redelivery semantics).
//!
//! A message is a hint, never the truth: everything here may deliver twice, late, or out of order. What it
//! promises is that nothing that was confirmed is lost silently.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;

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
    /// Whether a message that no queue takes is an error (`Unsent::Unroutable`).
    pub mandatory: bool,
    /// Its properties.
    pub properties: Properties,
    /// Its body: JSON.
    pub body: Bytes,
}

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
pub struct Receipt(pub(crate) Option<Box<dyn Settle>>);

/// What an implementation does to settle a delivery. Must not block; it may queue the work.
pub trait Settle: Send + Sync + std::fmt::Debug {
    /// Takes it out of its queue.
    fn ack(self: Box<Self>);
    /// Puts it back for another delivery.
    fn requeue(self: Box<Self>);
}

impl Receipt {
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

/// Messages of one queue, one by one. It survives reconnects; what was unsettled then is delivered again.
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
    /// the order of the parcels. A message that was returned or nacked is an error, never success.
    async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>>;

    /// Starts consuming a declared queue with at most `prefetch` unsettled messages.
    async fn consume(&self, queue: &str, prefetch: u16) -> anyhow::Result<Box<dyn Inbox>>;

    /// Counts connections: odd while connected, even while not. A worker watches it to stop what it can't vouch for.
    fn link(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Settles what is queued, then closes. Later calls fail.
    async fn close(&self);
}
