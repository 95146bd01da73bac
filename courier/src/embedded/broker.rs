//! The hub's state: queues, bindings and who holds what. Every method is one whole change under the hub's lock.

use super::{
    chaos::{Chaos, Dice, Fate, Mischief},
    queue::{Dead, EXPIRED, State, Stored},
    route,
};
use crate::{Parcel, Queue, Unsent, exchanges};
use longshore_schema::wire::names;
use std::{collections::BTreeMap, time::Instant};

/// All queues of a hub.
#[derive(Debug)]
pub(super) struct Broker {
    queues: BTreeMap<String, State>,
    dice: Option<Dice>,
    /// The last number given to a connection, a consumer or a delivery.
    last_id: u64,
}

impl Broker {
    pub(super) fn new(chaos: Option<Chaos>) -> Broker {
        Broker { queues: BTreeMap::new(), dice: chaos.map(Dice::new), last_id: 0 }
    }

    /// What was done on purpose so far.
    pub(super) fn mischief(&self) -> Mischief {
        self.dice.as_ref().map(Dice::done).unwrap_or_default()
    }

    /// A number that was never given before.
    pub(super) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Makes a queue for a connection, or finds it as it should be.
    pub(super) fn declare(&mut self, connection: u64, queue: &Queue) -> anyhow::Result<()> {
        let name = queue.name();
        if let Some((exchange, _)) = queue.bindings() {
            anyhow::ensure!(exchanges::kind(exchange).is_some(), "bind queue {name:?}: there is no exchange {exchange:?}");
        }
        let owner = match queue {
            Queue::Durable { .. } => {
                let dead = Queue::Durable { name: names::DEAD.into(), exchange: String::new(), routing_key: String::new() };
                self.queues.entry(names::DEAD.into()).or_insert_with(|| State::new(dead, None));
                None
            }
            Queue::Own { .. } => Some(connection),
        };
        let state = self.queues.entry(name.into()).or_insert_with(|| State::new(queue.clone(), owner));
        anyhow::ensure!(
            state.owner == owner,
            "queue {name:?} exists with other properties: it is {}, and was declared as {}",
            described(state.owner, connection),
            described(owner, connection)
        );
        if let Some((exchange, keys)) = queue.bindings() {
            for key in keys {
                let binding = (exchange.to_owned(), key.clone());
                if !state.bindings.contains(&binding) {
                    state.bindings.push(binding);
                }
            }
        }
        Ok(())
    }

    /// Puts a message into every queue that takes it.
    pub(super) fn publish(&mut self, mut parcel: Parcel) -> Result<(), Unsent> {
        parcel.check()?;
        let takers = self.takers(&parcel)?;
        if takers.is_empty() {
            let Parcel { exchange, routing_key, mandatory, .. } = parcel;
            return if mandatory { Err(Unsent::Unroutable { exchange, routing_key }) } else { Ok(()) };
        }
        parcel.mandatory = false;
        let fate = self.dice.as_mut().map_or(Fate::PLAIN, |dice| dice.fate(&parcel.exchange));
        let now = Instant::now();
        for name in takers {
            for _ in 0..fate.copies {
                self.put(&name, Stored::new(parcel.clone(), now));
            }
            if fate.copies > 0 {
                self.let_late_come(&name);
            }
            if let Some(state) = self.queues.get_mut(&name).filter(|_| fate.late) {
                state.put_late(Stored::new(parcel.clone(), now));
            }
            self.expire(&name, now);
        }
        if fate.confirmed { Ok(()) } else { Err(Unsent::Unconfirmed("lost before its confirm, on purpose".into())) }
    }

    /// Whether a connection may consume a queue.
    pub(super) fn may_consume(&self, connection: u64, queue: &str) -> anyhow::Result<()> {
        let state = self.queues.get(queue).ok_or_else(|| anyhow::anyhow!("consume queue {queue:?}: there is none"))?;
        anyhow::ensure!(
            state.owner.is_none_or(|owner| owner == connection),
            "consume queue {queue:?}: it is exclusive to another connection"
        );
        Ok(())
    }

    /// The next message for a consumer that holds fewer than `prefetch`: its delivery's number and the message.
    pub(super) fn take(&mut self, queue: &str, consumer: u64, prefetch: usize) -> Option<(u64, Stored)> {
        self.expire(queue, Instant::now());
        let delivery = self.id();
        let state = self.queues.get_mut(queue)?;
        if state.held_by(consumer) >= prefetch {
            return None;
        }
        state.take(delivery, consumer).map(|stored| (delivery, stored))
    }

    /// A delivery is done.
    pub(super) fn settle(&mut self, queue: &str, delivery: u64) {
        if let Some(state) = self.queues.get_mut(queue) {
            state.settle(delivery);
        }
    }

    /// A delivery comes back.
    pub(super) fn give_back(&mut self, queue: &str, delivery: u64) {
        let dead = self.queues.get_mut(queue).and_then(|state| state.give_back(delivery));
        self.bury(queue, dead);
    }

    /// All that a consumer holds comes back.
    pub(super) fn give_back_all(&mut self, queue: &str, consumer: u64) {
        let dead = self.queues.get_mut(queue).map(|state| state.give_back_all(consumer));
        self.bury(queue, dead.unwrap_or_default());
    }

    /// A connection ended: its own queues go.
    pub(super) fn remove_own(&mut self, connection: u64) {
        self.queues.retain(|_, state| state.owner != Some(connection));
    }

    /// A connection was lost and made again: its own queues are there again, empty.
    pub(super) fn clear_own(&mut self, connection: u64) {
        self.queues.values_mut().filter(|state| state.owner == Some(connection)).for_each(State::clear);
    }

    fn takers(&self, parcel: &Parcel) -> Result<Vec<String>, Unsent> {
        if parcel.exchange.is_empty() {
            return Ok(self.queues.get_key_value(&parcel.routing_key).map(|(name, _)| name.clone()).into_iter().collect());
        }
        let Some(kind) = exchanges::kind(&parcel.exchange) else {
            return Err(Unsent::Unconfirmed(format!("there is no exchange {:?}", parcel.exchange)));
        };
        let takes =
            |(exchange, key): &(String, String)| *exchange == parcel.exchange && route::matches(kind, key, &parcel.routing_key);
        Ok(self.queues.iter().filter(|(_, state)| state.bindings.iter().any(takes)).map(|(name, _)| name.clone()).collect())
    }

    fn put(&mut self, queue: &str, stored: Stored) {
        if let Some(state) = self.queues.get_mut(queue) {
            let waiting = state.waiting();
            let place = self.dice.as_mut().map_or(waiting, |dice| dice.place(waiting));
            if let Some(dice) = self.dice.as_mut().filter(|_| state.overtakes(&stored, place)) {
                dice.reordered(1);
            }
            state.put(stored, place);
            if queue == names::DEAD {
                state.limit(names::DEAD_LIMIT as usize, names::DEAD_LIMIT_BYTES as usize);
            }
        }
    }

    /// A message has come to this queue: so do the copies of earlier ones that were to come after it.
    fn let_late_come(&mut self, queue: &str) {
        let late = self.queues.get_mut(queue).map_or(0, State::let_late_come);
        if let Some(dice) = &mut self.dice {
            dice.reordered(late);
        }
    }

    fn expire(&mut self, queue: &str, now: Instant) {
        let dead = self.queues.get_mut(queue).map(|state| state.expire(now));
        self.bury(queue, dead.unwrap_or_default());
    }

    /// What left a durable queue undone goes to `longshore.dead`, as RabbitMQ's dead letters do; what left an
    /// own queue, or `longshore.dead` itself, is gone. So is a step that expired: it was sent again.
    fn bury(&mut self, queue: &str, dead: impl IntoIterator<Item = Dead>) {
        let Some(state) = self.queues.get(queue).filter(|state| state.owner.is_none() && queue != names::DEAD) else { return };
        let steps = state.declared.bindings().is_some_and(|(exchange, _)| exchange == names::STEPS);
        for Dead { mut parcel, reason } in dead {
            if steps && reason == EXPIRED {
                continue;
            }
            for (header, text) in [("reason", reason), ("queue", queue), ("exchange", &parcel.exchange)] {
                parcel.properties.headers.entry(format!("x-first-death-{header}")).or_insert_with(|| text.into());
            }
            parcel.properties.expiration_ms = None;
            parcel.exchange = String::new();
            parcel.routing_key = names::DEAD.into();
            self.put(names::DEAD, Stored::new(parcel, Instant::now()));
        }
    }
}

fn described(owner: Option<u64>, connection: u64) -> &'static str {
    match owner {
        None => "durable",
        Some(owner) if owner == connection => "exclusive to this connection",
        Some(_) => "exclusive to another connection",
    }
}
