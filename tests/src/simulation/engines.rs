//! Engines: each absorbs what arrives, hands it to its relay, and acknowledges; each may die between any two of
//! these. What they decide is decided by the engine's own journal, clock and outbox.

use super::{
    choices::At,
    mutants::Bug,
    schedule::{Happening, Simulation},
};
use longshore_courier::Unsent;
use longshore_engine::{
    clock,
    database::Failed,
    journal::{
        self, Item, Written,
        memory::Memory,
        parts::{Parts, Then},
    },
    outbox as relay,
};
use longshore_schema::{
    tables::outbox,
    time::Timestamp,
    wire::{Report, names},
};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Between two ticks that find nothing.
const IDLE_US: i64 = 3_000_000;

/// One engine's process.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) alive: bool,
    epoch: u32,
    /// With its delivery, if it is a message.
    pub(super) inbox: Vec<(Option<u64>, Item)>,
    /// What its journal remembers: gone with it.
    memory: Arc<Mutex<Memory>>,
    /// Rows that the broker confirmed: the next transaction deletes them too.
    confirmed: Vec<Uuid>,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine { alive: true, epoch: 0, inbox: vec![], memory: Arc::default(), confirmed: vec![] }
    }
}

impl Simulation<'_> {
    pub(super) fn lives(&self, engine: usize, epoch: u32) -> bool {
        self.engines[engine].alive && self.engines[engine].epoch == epoch
    }

    fn some_engine(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.engines.len()).filter(|it| self.engines[*it].alive).collect();
        let at = self.choices.below(At::Who, alive.len() as u64) as usize;
        alive.get(at).copied()
    }

    /// A command or a report arrives at some engine, or waits for one.
    pub(super) fn arrives(&mut self, item: Item, again: bool) {
        let Some(engine) = self.some_engine() else {
            return self.after(1_000_000, Happening::Inbound(item, again));
        };
        let delivery = self.broker.deliver(engine, item.clone());
        self.engines[engine].inbox.push((Some(delivery), item));
        if self.engines[engine].inbox.len() == 1 {
            let epoch = self.engines[engine].epoch;
            self.soon(Happening::Absorb(engine, epoch));
        }
    }

    /// As the journal's task does it: a batch of what has arrived.
    pub(super) async fn absorb(&mut self, engine: usize) {
        let count = self.engines[engine].inbox.len().min(self.config.batch);
        if count == 0 {
            return;
        }
        self.mix(engine);
        let batch: Vec<(Option<u64>, Item)> = self.engines[engine].inbox.drain(..count).collect();
        let epoch = self.engines[engine].epoch;
        if !self.engines[engine].inbox.is_empty() {
            self.after(20_000, Happening::Absorb(engine, epoch));
        }
        let deliveries: Vec<u64> = batch.iter().filter_map(|it| it.0).collect();
        if self.bug == Some(Bug::AckBeforeCommit) {
            self.ack(engine, deliveries.clone());
        }
        if let Some(fault) = self.choices.fault("death before commit", 25) {
            self.engine_dies(engine, &format!("fault {fault}: engine {engine} dies before its commit"));
            return;
        }
        self.submit(engine, batch.into_iter().map(|it| it.1).collect()).await;
        if let Some(fault) = self.choices.fault("death before ack", 25) {
            self.engine_dies(engine, &format!("fault {fault}: engine {engine} dies before it acknowledges"));
            return;
        }
        self.soon(Happening::Ack(engine, epoch, deliveries));
    }

    /// Commands, and everything else, are each in the order of their coming. What else comes while a batch is gathered may be
    /// behind commands that are in it by then.
    fn mix(&mut self, engine: usize) {
        let inbox = std::mem::take(&mut self.engines[engine].inbox);
        let (commands, others): (VecDeque<_>, VecDeque<_>) =
            inbox.into_iter().partition(|(_, item)| matches!(item, Item::Command(_)));
        let (mut commands, mut others, mut mixed) = (commands, others, vec![]);
        while !(commands.is_empty() || others.is_empty()) {
            let next = if self.choices.one_in(At::Who, 3) { &mut commands } else { &mut others };
            mixed.extend(next.pop_front());
        }
        mixed.extend(others.into_iter().chain(commands));
        self.engines[engine].inbox = mixed;
    }

    /// As the journal's task does it, without its pauses. It ends with its process.
    async fn submit(&mut self, engine: usize, items: Vec<Item>) {
        let epoch = self.engines[engine].epoch;
        let mut parts = Parts::of(items);
        while self.lives(engine, epoch)
            && let Some(part) = parts.take()
        {
            let Err(failed) = self.write(engine, part.items()).await else { continue };
            match parts.failed(part, &failed) {
                Then::Again | Then::AgainAfter(_) | Then::Halves => (),
                Then::GaveUp(item) => return self.wrong.push(format!("could not absorb {item:?}: {failed}")),
            }
        }
    }

    /// One transaction, what is checked after it, and what is handed over.
    async fn write(&mut self, engine: usize, items: &[Item]) -> Result<(), Failed> {
        let memory = self.engines[engine].memory.clone();
        let confirmed = std::mem::take(&mut self.engines[engine].confirmed);
        let written = journal::write(&self.place.database, &memory, self.config, items.to_vec(), confirmed.clone()).await;
        let Written { absorbed, outbox, passing, now: _ } = match written {
            Ok(written) => written,
            Err(failed) => {
                self.engines[engine].confirmed.extend(confirmed);
                return Err(failed);
            }
        };
        self.commits += 1;
        self.say(|| format!("engine {engine} commits {}", items.iter().map(told).collect::<Vec<_>>().join(", ")));
        self.observe(items, &absorbed, &outbox, &passing);
        self.check_commit(items);
        self.check_histories().await.map_err(Failed::Internal)?;
        if let Some(fault) = self.choices.fault("answer lost", 40) {
            self.say(|| format!("fault {fault}: the answer to the commit is lost"));
            self.known.count("answer lost");
            self.engines[engine].memory = Arc::default();
            self.engines[engine].confirmed.extend(confirmed);
            return Err(Failed::Database(sea_orm::DbErr::Custom("the answer to the commit is lost".into())));
        }
        if !(outbox.is_empty() && passing.is_empty()) {
            if let Some(fault) = self.choices.fault("death after commit", 40) {
                self.engine_dies(engine, &format!("fault {fault}: engine {engine} dies after its commit"));
                return Ok(());
            }
            let epoch = self.engines[engine].epoch;
            self.soon(Happening::Publish(engine, epoch, outbox, passing));
        }
        Ok(())
    }

    pub(super) fn ack(&mut self, engine: usize, deliveries: Vec<u64>) {
        for delivery in deliveries {
            if self.broker.unsettled.get(&delivery).is_some_and(|(owner, _)| *owner == engine) {
                self.broker.unsettled.remove(&delivery);
            }
        }
        if let Some(fault) = self.choices.fault("wipe", 300) {
            self.wipe(fault);
        }
    }

    /// What it had in hand comes again, to whoever lives.
    fn engine_dies(&mut self, engine: usize, why: &str) {
        self.say(|| why.to_owned());
        let it = &mut self.engines[engine];
        it.alive = false;
        it.epoch += 1;
        it.inbox.clear();
        it.confirmed.clear();
        it.memory = Arc::default();
        let back: Vec<u64> =
            self.broker.unsettled.iter().filter(|(_, (owner, _))| *owner == engine).map(|(delivery, _)| *delivery).collect();
        for delivery in back {
            if let Some((_, item)) = self.broker.unsettled.remove(&delivery) {
                self.soon(Happening::Inbound(item, true));
            }
        }
        let away = 1_000 * (1 + self.choices.below(At::Delay, 60_000) as i64);
        self.after(away, Happening::EngineStarts(engine));
    }

    /// The relay: publishes, and deletes what needs no more of it.
    pub(super) fn publish(&mut self, engine: usize, rows: Vec<outbox::Model>, passing: Vec<outbox::Model>) {
        let epoch = self.engines[engine].epoch;
        let mut settled = vec![];
        let now = Timestamp(self.now);
        for (row, stored) in passing.iter().map(|it| (it, false)).chain(rows.iter().map(|it| (it, true))) {
            if !self.lives(engine, epoch) {
                return;
            }
            let sent = match self.choices.fault("unconfirmed", 30) {
                Some(fault) => {
                    let arrives = self.choices.one_in(At::Fault, 2);
                    self.say(|| format!("fault {fault}: a message to {} isn't confirmed; it arrives: {arrives}", row.exchange));
                    if arrives {
                        self.route(row);
                    }
                    Err(Unsent::Unconfirmed("the simulation".into()))
                }
                None => {
                    self.route(row);
                    Ok(())
                }
            };
            if stored && (relay::is_settled(row, &sent, now) || self.bug == Some(Bug::DeleteUnconfirmed)) {
                settled.push(row.id);
            }
            if let Some(fault) = self.choices.fault("death while publishing", 80) {
                self.engine_dies(engine, &format!("fault {fault}: engine {engine} dies while it publishes"));
            }
        }
        if !settled.is_empty() && self.lives(engine, epoch) {
            self.engines[engine].confirmed.extend(settled);
            self.soon(Happening::Delete(engine, epoch));
        }
    }

    pub(super) async fn delete(&mut self, engine: usize) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.engines[engine].confirmed);
        if rows.is_empty() {
            return Ok(());
        }
        if let Some(fault) = self.choices.fault("death before delete", 80) {
            self.engine_dies(engine, &format!("fault {fault}: engine {engine} dies before it deletes what it published"));
            return Ok(());
        }
        relay::delete(&self.place.database, rows).await;
        self.look_ahead();
        Ok(())
    }

    /// One engine looks at what is due, and at messages that a dead one left.
    pub(super) async fn tick(&mut self) -> anyhow::Result<()> {
        self.tick_at = None;
        let Some(engine) = self.some_engine() else {
            self.tick_within(IDLE_US);
            return Ok(());
        };
        let mut due = clock::due(&self.place.database, self.config, true).await?;
        let epoch = self.engines[engine].epoch;
        if !due.is_empty() {
            if self.engines.len() > 1 && self.choices.fault("two clocks", 20).is_some() {
                // Another engine found the same.
                due.extend(due.clone());
            }
            self.engines[engine].inbox.extend(due.into_iter().map(|it| (None, it)));
            while self.lives(engine, epoch) && self.wrong.is_empty() && !self.engines[engine].inbox.is_empty() {
                self.absorb(engine).await;
            }
        }
        let (rows, _) = relay::left_over(&self.place.database).await?;
        if !rows.is_empty() && self.lives(engine, epoch) {
            self.say(|| format!("engine {engine} finds {} messages left over", rows.len()));
            self.soon(Happening::Publish(engine, epoch, rows, vec![]));
        }
        self.look_ahead();
        Ok(())
    }

    /// A tick comes within that time.
    pub(super) fn tick_within(&mut self, delay: i64) {
        let at = self.now + delay.max(1);
        if self.tick_at.is_none_or(|known| at < known) {
            self.happenings.retain(|_, it| !matches!(it, Happening::Tick));
            self.tick_at = Some(at);
            self.after(delay, Happening::Tick);
        }
    }
}

/// An item in few words.
fn told(item: &Item) -> String {
    match item {
        Item::Command(command) => format!("{} {}", command.kind, command.message_id),
        Item::Report(report) => match &**report {
            Report::Started { attempt, worker, token: _ } => format!("{worker} wants {}", step(attempt)),
            Report::Renew { worker, running, .. } => format!("{worker} renews {}", running.len()),
            Report::Done { attempt, worker, result } => format!("{worker} reports {}: {}", step(attempt), short(result)),
            Report::Declined { attempt, worker } => format!("{worker} declines {}", step(attempt)),
            Report::Announce(announce) => format!("{} announces", announce.worker),
        },
        Item::Due { operation, event } => format!("due for {operation}: {}", short(event)),
        Item::Wake(place) => format!("room in {place}"),
        Item::Refill(queue) => format!("room in {}", queue.trim_start_matches(names::STEPS)),
    }
}

/// An attempt in few words.
pub(super) fn step(attempt: &longshore_schema::step::Attempt) -> String {
    format!("{:?} {}.{} of {}", attempt.way, attempt.seq, attempt.n, attempt.operation)
}

/// The beginning of what it is, up to a space: of an id that is cut nobody could say whose it is.
fn short(what: &impl std::fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    if let Some((end, _)) = text.char_indices().nth(160) {
        text.truncate(text[..end].rfind(' ').unwrap_or(end));
    }
    text
}
