//! One queue: what waits, what is out with a consumer, and what happens to what comes back.

use crate::{Parcel, Queue};
use longshore_schema::wire::names;
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// A message in a queue waited for longer than it may.
pub(super) const EXPIRED: &str = "expired";

/// A message in a queue.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) parcel: Parcel,
    /// How often it came back.
    pub(super) returns: i64,
    expires: Option<Instant>,
}

/// A message that a consumer holds.
#[derive(Debug)]
struct Out {
    stored: Stored,
    consumer: u64,
}

/// A queue and its messages.
#[derive(Debug)]
pub(super) struct State {
    pub(super) declared: Queue,
    /// The connection that it is exclusive to.
    pub(super) owner: Option<u64>,
    /// (exchange, key)
    pub(super) bindings: Vec<(String, String)>,
    waiting: VecDeque<Stored>,
    /// Copies that come after the next message.
    late: Vec<Stored>,
    /// By delivery, in the order in which they went out.
    out: BTreeMap<u64, Out>,
}

/// What must leave a queue, and why.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) parcel: Parcel,
    /// As RabbitMQ names it in `x-first-death-reason`.
    pub(super) reason: &'static str,
}

impl Stored {
    pub(super) fn new(parcel: Parcel, now: Instant) -> Stored {
        let expires = parcel.properties.expiration_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms)));
        Stored { parcel, returns: 0, expires }
    }
}

impl State {
    pub(super) fn new(declared: Queue, owner: Option<u64>) -> State {
        State { declared, owner, bindings: vec![], waiting: VecDeque::new(), late: vec![], out: BTreeMap::new() }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a message behind `place` others.
    pub(super) fn put(&mut self, stored: Stored, place: usize) {
        self.waiting.insert(place.min(self.waiting.len()), stored);
    }

    /// Whether a message that is put behind `place` others comes before another one.
    pub(super) fn overtakes(&self, stored: &Stored, place: usize) -> bool {
        self.waiting.iter().skip(place).any(|other| other.parcel != stored.parcel)
    }

    /// Keeps a copy back until the next message has come.
    pub(super) fn put_late(&mut self, stored: Stored) {
        self.late.push(stored);
    }

    /// The next message has come: puts what was kept back behind all that wait. How many there were.
    pub(super) fn let_late_come(&mut self) -> usize {
        let late = std::mem::take(&mut self.late);
        let count = late.len();
        self.waiting.extend(late);
        count
    }

    /// Forgets the oldest that wait, until no more than `messages` and `bytes` are left.
    pub(super) fn limit(&mut self, messages: usize, bytes: usize) {
        let mut all: usize = self.waiting.iter().map(|stored| stored.parcel.body.len()).sum();
        while self.waiting.len() > messages || all > bytes {
            all -= self.waiting.pop_front().map_or(all, |stored| stored.parcel.body.len());
        }
    }

    /// Takes the expired ones off the front.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Dead> {
        let mut dead = vec![];
        while self.waiting.front().is_some_and(|stored| stored.expires.is_some_and(|at| at <= now)) {
            dead.extend(self.waiting.pop_front().map(|stored| Dead { parcel: stored.parcel, reason: EXPIRED }));
        }
        dead
    }

    /// How many a consumer holds.
    pub(super) fn held_by(&self, consumer: u64) -> usize {
        self.out.values().filter(|out| out.consumer == consumer).count()
    }

    /// Hands the first message to a consumer.
    pub(super) fn take(&mut self, delivery: u64, consumer: u64) -> Option<Stored> {
        let stored = self.waiting.pop_front()?;
        self.out.insert(delivery, Out { stored: stored.clone(), consumer });
        Some(stored)
    }

    /// A delivery is done. Does nothing if it was given back already.
    pub(super) fn settle(&mut self, delivery: u64) {
        self.out.remove(&delivery);
    }

    /// A delivery comes back to the front; one that came back too often is dead.
    pub(super) fn give_back(&mut self, delivery: u64) -> Option<Dead> {
        let mut stored = self.out.remove(&delivery)?.stored;
        stored.returns += 1;
        let limited = match self.declared {
            Queue::Durable { .. } => self.declared.name() != names::DEAD,
            Queue::Own { .. } => false,
        };
        if limited && stored.returns > names::DELIVERY_LIMIT {
            return Some(Dead { parcel: stored.parcel, reason: "delivery_limit" });
        }
        self.waiting.push_front(stored);
        None
    }

    /// All that a consumer holds comes back, in its order.
    pub(super) fn give_back_all(&mut self, consumer: u64) -> Vec<Dead> {
        let held: Vec<u64> = self.out.iter().filter(|(_, out)| out.consumer == consumer).map(|(id, _)| *id).collect();
        held.into_iter().rev().filter_map(|delivery| self.give_back(delivery)).collect()
    }

    /// Forgets everything in it, as an own queue does when its connection ends.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.late.clear();
        self.out.clear();
    }
}
