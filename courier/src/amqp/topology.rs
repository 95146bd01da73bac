//! Exchanges, queues and bindings: declared, checked against what exists, and declared again on each new connection.

use super::{ANSWER_LIMIT, properties::short};
use crate::{
    Queue,
    exchanges::{EXCHANGES, Kind},
};
use anyhow::Context;
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};
use longshore_schema::wire::names;
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// What this courier has declared.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// By name. Held locked while declaring, so that a new connection sees all or nothing of a call.
    declared: Mutex<BTreeMap<String, Queue>>,
}

impl Topology {
    /// Declares the exchanges and these queues, and remembers them.
    pub(super) async fn declare(&self, connection: &Connection, queues: &[Queue]) -> anyhow::Result<()> {
        let mut declared = self.declared.lock().await;
        tokio::time::timeout(ANSWER_LIMIT, declare(connection, queues)).await.context("declare queues")??;
        declared.extend(queues.iter().map(|queue| (queue.name().to_owned(), queue.clone())));
        Ok(())
    }

    /// Declares everything again.
    pub(super) async fn restore(&self, connection: &Connection) -> anyhow::Result<()> {
        let queues: Vec<Queue> = self.declared.lock().await.values().cloned().collect();
        if queues.is_empty() { Ok(()) } else { declare(connection, &queues).await }
    }

    /// Declares one queue again, if this courier has declared it.
    pub(super) async fn restore_queue(&self, connection: &Connection, name: &str) -> anyhow::Result<()> {
        match self.declared.lock().await.get(name).cloned() {
            Some(queue) => declare(connection, &[queue]).await,
            None => Ok(()),
        }
    }
}

async fn declare(connection: &Connection, queues: &[Queue]) -> anyhow::Result<()> {
    for (name, kind) in EXCHANGES {
        let kind = match kind {
            Kind::Direct => ExchangeKind::Direct,
            Kind::Topic => ExchangeKind::Topic,
        };
        declare_exchange(connection, name, kind).await.with_context(|| format!("declare exchange {name:?}"))?;
    }
    let channel = connection.create_channel().await.context("open a channel")?;
    if queues.iter().any(|queue| matches!(queue, Queue::Durable { .. })) {
        declare_queue(&channel, names::DEAD, durable(), dead()).await?;
        declare_exchange(connection, names::DEAD, ExchangeKind::Headers)
            .await
            .with_context(|| format!("declare exchange {:?}", names::DEAD))?;
        let options = QueueBindOptions::default();
        channel.queue_bind(short(names::DEAD)?, short(names::DEAD)?, short("")?, options, not_expired()).await?;
    }
    for queue in queues {
        let (options, arguments) = match queue {
            Queue::Durable { exchange, .. } if exchange == names::STEPS => (durable(), sent_again()),
            Queue::Durable { .. } => (durable(), limited()),
            Queue::Own { .. } => (QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default()),
        };
        declare_queue(&channel, queue.name(), options, arguments).await?;
        if let Some((exchange, keys)) = queue.bindings() {
            for key in keys {
                bind(&channel, queue.name(), exchange, key)
                    .await
                    .with_context(|| format!("bind queue {:?} to exchange {exchange:?} with key {key:?}", queue.name()))?;
            }
        }
    }
    Ok(())
}

/// A user who may not make exchanges may still see that they are there.
async fn declare_exchange(connection: &Connection, name: &str, kind: ExchangeKind) -> anyhow::Result<()> {
    for passive in [false, true] {
        // A refusal closes the channel.
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
        match channel.exchange_declare(short(name)?, kind.clone(), options, FieldTable::default()).await {
            Ok(()) => return Ok(()),
            Err(error) if !passive && is(&error, AMQPSoftError::ACCESSREFUSED) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn declare_queue(channel: &Channel, name: &str, options: QueueDeclareOptions, arguments: FieldTable) -> anyhow::Result<()> {
    let declared = channel.queue_declare(short(name)?, options, arguments).await;
    declared.map(|_| ()).map_err(|error| {
        let conflict = is(&error, AMQPSoftError::PRECONDITIONFAILED) || is(&error, AMQPSoftError::RESOURCELOCKED);
        let what = if conflict { "exists with other properties" } else { "can't be declared" };
        // Not as a source: its text holds its own source already.
        anyhow::anyhow!("queue {name:?} {what}: {error}")
    })
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(short(queue)?, short(exchange)?, short(key)?, options, FieldTable::default()).await?)
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..Default::default() }
}

/// A quorum queue whose dead letters stay in it until `longshore.dead` has confirmed them.
fn limited() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(names::DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(names::DEAD)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ])
}

/// A queue of steps: what expired in it was sent again from the database, so that only the other dead letters are
/// kept. RabbitMQ holds what an exchange takes nowhere until somebody does, unless it is told to drop it: hence `at-most-once`.
fn sent_again() -> FieldTable {
    let mut arguments = limited();
    arguments.insert("x-dead-letter-exchange".into(), text(names::DEAD));
    arguments.insert("x-dead-letter-strategy".into(), text("at-most-once"));
    arguments
}

/// What `sent_again` keeps: what came back too often. What expired was sent again, and nobody rejects. `-with-x`: else headers that begin with `x-` don't count.
fn not_expired() -> FieldTable {
    let reason = "x-first-death-reason";
    table([("x-match", text("any-with-x")), (reason, text("delivery_limit"))])
}

/// Limited, since nobody may ever look: the oldest go first. RabbitMQ 4 drops what came back 20 times unless a limit is given, and older ones know no "unlimited".
fn dead() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(i32::MAX.into())),
        ("x-max-length", AMQPValue::LongLongInt(names::DEAD_LIMIT.into())),
        ("x-max-length-bytes", AMQPValue::LongLongInt(names::DEAD_LIMIT_BYTES.into())),
        ("x-overflow", text("drop-head")),
    ])
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn is(error: &lapin::Error, soft: AMQPSoftError) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == AMQPErrorKind::Soft(soft))
}
