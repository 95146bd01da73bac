//! Consumes one queue, one channel after another: a lost connection, a channel's error, a deleted queue or a
//! cancelled consumer end a session, and the next one follows.

use super::{
    ANSWER_LIMIT, CLOSE_LIMIT, PATIENCE, properties,
    settlements::{self, AmqpReceipt, Settlement},
    supervisor::{Backoff, Link},
    topology::Topology,
};
use crate::{Delivery, Inbox, Receipt};
use anyhow::Context;
use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What is consumed.
#[derive(Debug, Clone)]
pub(super) struct What {
    pub(super) queue: ShortString,
    pub(super) prefetch: u16,
}

/// One queue's messages, whatever session brings them.
#[derive(Debug)]
pub(super) struct AmqpInbox {
    arrived: mpsc::UnboundedReceiver<Arrived>,
    _stop_on_drop: DropGuard,
}

/// A message with the session that brought it.
#[derive(Debug)]
struct Arrived {
    message: lapin::message::Delivery,
    settlements: mpsc::UnboundedSender<Settlement>,
}

/// A consumer on a channel of its own.
struct Session {
    channel: Channel,
    consumer: Consumer,
    settlements: mpsc::UnboundedSender<Settlement>,
    settling: JoinHandle<()>,
    /// Ends the queue of settlements for new ones; those in it are still sent.
    settled: CancellationToken,
}

/// Starts the first session, or fails; then keeps one until the inbox is dropped or the courier is closed.
pub(super) async fn start(
    what: What,
    link: &Link,
    topology: &Arc<Topology>,
    working: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<AmqpInbox> {
    let connection = link.within(PATIENCE).await.with_context(|| format!("consume queue {:?}", what.queue.as_str()))?;
    let first = Session::open(&connection, &what).await?;
    let (arrives, arrived) = mpsc::unbounded_channel();
    let stop = working.child_token();
    tasks.spawn(keep(first, what, link.clone(), topology.clone(), arrives, stop.clone()));
    Ok(AmqpInbox { arrived, _stop_on_drop: stop.drop_guard() })
}

#[async_trait]
impl Inbox for AmqpInbox {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let Arrived { message, settlements } = self.arrived.recv().await?;
            // Its session is over: the broker has it again, and the next session brings it.
            if settlements.is_closed() {
                continue;
            }
            let receipt = AmqpReceipt { tag: message.delivery_tag, settlements };
            let redelivered = message.redelivered;
            return Some(Delivery {
                parcel: properties::from_amqp(message),
                redelivered,
                receipt: Receipt::new(Box::new(receipt)),
            });
        }
    }
}

async fn keep(
    first: Session,
    what: What,
    link: Link,
    topology: Arc<Topology>,
    arrives: mpsc::UnboundedSender<Arrived>,
    stop: CancellationToken,
) {
    let mut session = first;
    loop {
        let over = tokio::select! {
            why = session.deliver(&arrives) => Some(why),
            () = stop.cancelled() => None,
        };
        session.close().await;
        let Some(why) = over else { return };
        tracing::info!(queue = what.queue.as_str(), why, "a consumer ended; starting it again");
        session = tokio::select! {
            next = open_again(&what, &link, &topology) => match next {
                Some(session) => session,
                None => return,
            },
            () = stop.cancelled() => return,
        };
    }
}

/// The next session, however long it takes; `None` when the courier is closed.
async fn open_again(what: &What, link: &Link, topology: &Topology) -> Option<Session> {
    let mut backoff = Backoff::new();
    loop {
        let connection = link.up().await?;
        // Its supervisor hasn't noticed yet.
        if !connection.status().connected() {
            tokio::time::sleep(backoff.pause()).await;
            continue;
        }
        let opened = async {
            topology.restore_queue(&connection, what.queue.as_str()).await?;
            Session::open(&connection, what).await
        };
        match tokio::time::timeout(ANSWER_LIMIT, opened).await {
            Ok(Ok(session)) => return Some(session),
            Ok(Err(error)) => {
                tracing::warn!(queue = what.queue.as_str(), error = format!("{error:#}"), "can't consume yet");
            }
            Err(_) => tracing::warn!(queue = what.queue.as_str(), "can't consume yet: no answer"),
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

impl Session {
    async fn open(connection: &Connection, what: &What) -> anyhow::Result<Session> {
        let opened = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(what.prefetch, BasicQosOptions::default()).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel.basic_consume(what.queue.clone(), "".into(), options, arguments).await?;
            anyhow::Ok((channel, consumer))
        };
        let doing = || format!("consume queue {:?}", what.queue.as_str());
        let (channel, consumer) = tokio::time::timeout(ANSWER_LIMIT, opened).await.with_context(doing)?.with_context(doing)?;
        let (settlements, queued) = mpsc::unbounded_channel();
        let settled = CancellationToken::new();
        let settling = tokio::spawn(settlements::run(channel.clone(), queued, settled.clone()));
        Ok(Session { channel, consumer, settlements, settling, settled })
    }

    /// Hands on what arrives; returns why nothing will any more.
    async fn deliver(&mut self, arrives: &mpsc::UnboundedSender<Arrived>) -> String {
        loop {
            match self.consumer.next().await {
                None => return "the broker cancelled it".into(),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(message)) => {
                    // An error means that the inbox is gone; `stop` follows.
                    let _gone = arrives.send(Arrived { message, settlements: self.settlements.clone() });
                }
            }
        }
    }

    /// Sends what is queued, then closes the channel: the broker takes back all else.
    async fn close(self) {
        self.settled.cancel();
        let closing = async {
            let _panicked = self.settling.await;
            if self.channel.status().connected()
                && let Err(error) = end(&self.channel, &self.consumer).await
            {
                tracing::debug!(%error, "a channel was gone before it was closed");
            }
        };
        if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
            tracing::warn!("a channel didn't close in time");
        }
    }
}

/// RabbitMQ's channel hands acknowledgements to a quorum queue a few at a time, and forgets the rest when it is
/// closed. Two questions that the queue must answer first give it the time; nothing else tells when it is done.
async fn end(channel: &Channel, consumer: &Consumer) -> lapin::Result<()> {
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    let look = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(consumer.queue(), look, FieldTable::default()).await?;
    channel.close(200, "done".into()).await
}
