//! The journal: the only writer of operations, steps, history, ledger and outbox. It takes whatever commands and
//! reports have arrived, up to a limit, into one transaction; if that fails, halves of it: a bad item ends up alone.

mod apply;
mod bulk;
pub mod history;
pub mod loaded;
pub mod memory;
mod outflow;
pub mod parts;
mod perform;
pub mod rows;
mod send;
pub mod unit;
mod write;

use crate::{
    command::{self, Command},
    config::Config,
    database::{Database, Failed},
    machine::Event,
    outbox::{Handed, Relay},
    report,
};
use futures::FutureExt;
use longshore_schema::{
    ids::OperationId,
    step::Attempt,
    tables::outbox,
    time::Timestamp,
    wire::{Reply, Report},
};
use memory::Memory;
use parts::{Parts, Then};
use std::{sync::Arc, time::Instant};
use tokio::sync::{Mutex, mpsc, oneshot};
use unit::Unit;
use uuid::Uuid;

/// Something for the journal to absorb.
#[derive(Debug, Clone)]
pub enum Item {
    /// A command.
    Command(Arc<Command>),
    /// A worker's report.
    Report(Arc<Report>),
    /// An event that the clock found to be due.
    Due {
        /// Whose.
        operation: OperationId,
        /// What.
        event: Event,
    },
    /// There may be room in a place.
    Wake(String),
    /// There may be room in a queue.
    Refill(String),
}

/// What became of an item, once it is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Absorbed {
    /// The answer to a command.
    Replied(Box<Reply>),
    /// Nothing to say.
    Done,
}

struct Submitted {
    item: Item,
    done: oneshot::Sender<anyhow::Result<Absorbed>>,
}

/// The way into the journal.
#[derive(Debug, Clone)]
pub struct Journal {
    urgent: mpsc::Sender<Submitted>,
    commands: mpsc::Sender<Submitted>,
}

impl std::fmt::Debug for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.item.fmt(f)
    }
}

impl Journal {
    /// Starts the journal's task. It ends when all `Journal`s are dropped and what they submitted is done.
    pub fn start(database: Database, config: Config, relay: Relay) -> (Journal, tokio::task::JoinHandle<()>) {
        let (urgent, urgent_inbox) = mpsc::channel(1024);
        let (commands, command_inbox) = mpsc::channel(1024);
        let writer = Writer { database, config, relay, memory: Arc::default() };
        let task = tokio::spawn(writer.run(urgent_inbox, command_inbox));
        (Journal { urgent, commands }, task)
    }

    /// Absorbs one item; returns when what it changed is committed. Dropping the future doesn't stop it.
    pub async fn absorb(&self, item: Item) -> anyhow::Result<Absorbed> {
        let (done, absorbed) = oneshot::channel();
        let way = match item {
            Item::Command(_) => &self.commands,
            Item::Report(_) | Item::Due { .. } | Item::Wake(_) | Item::Refill(_) => &self.urgent,
        };
        way.send(Submitted { item, done }).await.map_err(|_| anyhow::anyhow!("the journal has ended"))?;
        absorbed.await?
    }
}

struct Writer {
    database: Database,
    config: Config,
    relay: Relay,
    /// Locked by the one transaction that runs.
    memory: Arc<Mutex<Memory>>,
}

/// What a committed transaction left to do.
#[derive(Debug)]
pub struct Written {
    /// One for each item.
    pub absorbed: Vec<Absorbed>,
    /// Rows of the outbox, claimed for this engine.
    pub outbox: Vec<outbox::Model>,
    /// Messages that were never stored.
    pub passing: Vec<outbox::Model>,
    /// The transaction's time.
    pub now: Timestamp,
}

impl Writer {
    async fn run(self, mut urgent: mpsc::Receiver<Submitted>, mut commands: mpsc::Receiver<Submitted>) {
        loop {
            let first = tokio::select! {
                biased;
                Some(first) = urgent.recv() => first,
                Some(first) = commands.recv() => first,
                else => return,
            };
            let mut batch = vec![first];
            while batch.len() < self.config.batch
                && let Ok(more) = urgent.try_recv().or_else(|_| commands.try_recv())
            {
                batch.push(more);
            }
            self.absorb_batch(batch).await;
        }
    }

    /// One transaction, or as many as it takes (`parts.rs`).
    async fn absorb_batch(&self, batch: Vec<Submitted>) {
        let mut parts = Parts::of(batch);
        while let Some(part) = parts.take() {
            let items: Vec<Item> = part.items().iter().map(|it| it.item.clone()).collect();
            let count = items.len();
            let failed = match self.write(items).await {
                Ok(absorbed) => {
                    for (submitted, absorbed) in part.into_items().into_iter().zip(absorbed) {
                        // The one who asked may be gone.
                        let _ = submitted.done.send(Ok(absorbed));
                    }
                    continue;
                }
                Err(failed) => failed,
            };
            match parts.failed(part, &failed) {
                Then::Again => (),
                Then::AgainAfter(pause) => {
                    if let Failed::Database(error) = &failed {
                        tracing::warn!(error = %error, "the database failed; trying again");
                    }
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                }
                Then::Halves => tracing::debug!(items = count, %failed, "a batch is done in halves"),
                Then::GaveUp(Submitted { item, done }) => {
                    tracing::error!(?item, error = %failed, "could not absorb an item");
                    let _ = done.send(Err(failed.into()));
                }
            }
        }
    }

    /// One transaction. What it wrote is handed to the relay, and remembered; an error forgets everything.
    async fn write(&self, items: Vec<Item>) -> Result<Vec<Absorbed>, Failed> {
        let confirmed = self.relay.take_confirmed();
        match write(&self.database, &self.memory, self.config, items, confirmed.clone()).await {
            Ok(written) => {
                self.relay.hand_over(Handed::new(written.outbox, written.passing, written.now));
                Ok(written.absorbed)
            }
            Err(failed) => {
                self.relay.give_back_confirmed(confirmed);
                Err(failed)
            }
        }
    }
}

/// Absorbs all of them in one transaction, or none; deletes rows of the outbox that the broker confirmed. What was
/// written is remembered; an error forgets everything.
pub async fn write(
    database: &Database,
    memory: &Arc<Mutex<Memory>>,
    config: Config,
    items: Vec<Item>,
    confirmed: Vec<Uuid>,
) -> Result<Written, Failed> {
    let (clock, shared) = (database.clock(), memory.clone());
    let written = database.transact(move |tx| {
        async move {
            let mut memory = shared.lock().await;
            let now = memory.now(&clock, tx).await?;
            let remembers = memory.has_operations();
            let mut unit = Unit::new(tx, &mut memory, config, now.at);
            let absorbed = absorb_all(&mut unit, &items).await;
            let doubted = |failed| doubted(failed, remembers);
            let absorbed = absorbed.map_err(doubted)?;
            Ok((absorbed, now.at, unit.flush(&confirmed, now.reckoned).await.map_err(doubted)?))
        }
        .boxed()
    });
    match written.await {
        Ok((absorbed, now, flushed)) => {
            let mut memory = memory.lock().await;
            memory.keep(flushed.operations);
            memory.queues.extend(flushed.queues);
            flushed.now.into_iter().for_each(|it| memory.time.read(it, Instant::now()));
            Ok(Written { absorbed, outbox: flushed.outbox, passing: flushed.passing, now })
        }
        Err(failed) => {
            memory.lock().await.clear();
            Err(failed)
        }
    }
}

/// What is wrong of what is remembered may be right in the database: then another engine was faster, and all is read.
fn doubted(failed: Failed, remembers: bool) -> Failed {
    match failed {
        Failed::Internal(error) if remembers => Failed::Conflict(format!("what is remembered leads to: {error:#}")),
        failed => failed,
    }
}

async fn absorb_all(unit: &mut Unit<'_>, items: &[Item]) -> Result<Vec<Absorbed>, Failed> {
    load(unit, items).await?;
    let mut absorbed = vec![];
    for item in items {
        absorbed.push(absorb(unit, item).await?);
    }
    Ok(absorbed)
}

/// Loads what the items of a batch are about, together.
async fn load(unit: &mut Unit<'_>, items: &[Item]) -> Result<(), Failed> {
    let (mut ending, mut ids): (Vec<Attempt>, Vec<OperationId>) = (vec![], vec![]);
    let mut commands = vec![];
    for item in items {
        match item {
            Item::Due { operation, .. } => ids.push(*operation),
            Item::Report(report) => match &**report {
                Report::Done { attempt, .. } => ending.push(*attempt),
                Report::Started { attempt, .. } => ids.push(attempt.operation),
                Report::Renew { running, .. } => ids.extend(running.iter().map(|it| it.attempt.operation)),
                Report::Announce(_) | Report::Declined { .. } => (),
            },
            Item::Command(command) => commands.push(&**command),
            Item::Wake(_) | Item::Refill(_) => (),
        }
    }
    unit.load(ids).await?;
    unit.load_ending(ending).await?;
    command::load(unit, &commands).await
}

async fn absorb(unit: &mut Unit<'_>, item: &Item) -> Result<Absorbed, Failed> {
    match item {
        Item::Command(command) => Ok(Absorbed::Replied(Box::new(command::absorb(unit, command).await?))),
        Item::Report(report) => report::absorb(unit, report).await.map(|()| Absorbed::Done),
        Item::Due { operation, event } => {
            if unit.is_due(*operation, event)
                && let Err(ignored) = unit.apply(*operation, event.clone(), "clock").await?
            {
                tracing::debug!(operation.id = %operation, ?event, %ignored, "not due any more");
            }
            Ok(Absorbed::Done)
        }
        Item::Wake(place) => unit.wake(place, "clock").await.map(|()| Absorbed::Done),
        Item::Refill(queue) => {
            unit.refill(queue);
            Ok(Absorbed::Done)
        }
    }
}
