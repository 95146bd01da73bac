//! Workers' processes, as `longshore_workers` runs them (`attempts`): what a copy of a message means is decided by
//! its own `fate`. What they do about it is in `acting`, what they say in `reports`, what they are told in `words`.

use super::{
    choices::{At, Focus},
    job::Job,
    schedule::{Happening, Simulation},
    setup::WORKERS,
};
use longshore_schema::{
    fault::Fault,
    ids::OperationId,
    step::{Attempt, Pace, Step, StepMessage, Way},
    steps::{
        object::{Commit, Copy, Sealed, Transfer},
        volume::Write,
    },
    wire::{Outcome, Report},
};
use longshore_workers::fate::{self, Fate, Meaning};
use std::{collections::BTreeMap, sync::Arc};

/// Names an attempt: numbers count through all ways.
type Key = (OperationId, u16, u32);

pub(super) fn key(attempt: Attempt) -> Key {
    (attempt.operation, attempt.seq, attempt.n)
}

/// Where an attempt in hand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Wanting,
    Running,
    Reporting,
}

#[derive(Debug, Clone)]
pub(super) struct Hand {
    pub(super) message: Arc<StepMessage>,
    pub(super) expires: Option<i64>,
    pub(super) settled: bool,
    pub(super) phase: Phase,
    pub(super) since: i64,
    /// The end of its lease, or of its bound.
    pub(super) until: i64,
    pub(super) job: Job,
    pub(super) stop: Option<Fault>,
    pub(super) result: Option<Outcome>,
}

pub(super) type Carried = Vec<(u64, Vec<Sealed>)>;

/// One worker and its process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) process: u32,
    pub(super) alive: bool,
    pub(super) stalled_until: i64,
    /// The broker gave its connection up, and it doesn't know yet.
    pub(super) deaf: bool,
    pub(super) hands: BTreeMap<u64, Hand>,
    pub(super) next_hand: u64,
    pub(super) memory: BTreeMap<Key, Fate>,
    pub(super) token: u64,
    /// Renewals that aren't answered: when they were sent, and what they carried.
    pub(super) sent: BTreeMap<u64, (i64, Carried)>,
    pub(super) renews: bool,
}

impl Worker {
    pub(super) fn new(index: usize) -> Worker {
        Worker {
            id: WORKERS[index].into(),
            process: 0,
            alive: true,
            stalled_until: 0,
            deaf: false,
            hands: BTreeMap::new(),
            next_hand: 0,
            memory: BTreeMap::new(),
            token: 0,
            sent: BTreeMap::new(),
            renews: false,
        }
    }

    pub(super) fn hand_of(&self, attempt: Attempt) -> Option<u64> {
        self.hands.iter().find(|(_, it)| it.message.attempt == attempt).map(|(hand, _)| *hand)
    }
}

pub(super) fn lease_us(message: &StepMessage) -> i64 {
    match message.pace {
        Pace::Short { bound_s } => i64::from(bound_s) * 1_000_000,
        Pace::Long { lease_s } => i64::from(lease_s) * 1_000_000,
    }
}

/// Which parts of the life of a step an attempt in hand is in.
pub(super) fn parts(hand: &Hand) -> Vec<Focus> {
    let message = &hand.message;
    let mut parts = vec![];
    if message.attempt.way != Way::Do {
        parts.push(Focus::Undos);
    } else if hand.phase == Phase::Running {
        match message.step.as_str() {
            Commit::NAME if hand.job.is_about_to_count() => parts.push(Focus::Commits),
            Copy::NAME | Transfer::NAME | Write::NAME => parts.push(Focus::Copies),
            _ => (),
        }
    }
    match is_long(message) {
        true if hand.phase != Phase::Running => parts.push(Focus::Starts),
        true => (),
        false => parts.push(Focus::ShortSteps),
    }
    parts
}

pub(super) fn is_long(message: &StepMessage) -> bool {
    matches!(message.pace, Pace::Long { .. })
}

impl Simulation<'_> {
    pub(super) fn runs(&self, worker: usize, process: u32) -> bool {
        self.workers[worker].alive && self.workers[worker].process == process
    }

    /// Whether the whole process stands still, and until when.
    pub(super) fn stalled(&self, worker: usize) -> Option<i64> {
        let until = self.workers[worker].stalled_until;
        (until > self.now).then_some(until)
    }

    /// What a copy of a message means (`attempts.rs`).
    pub(super) fn step_arrives(&mut self, message: &Arc<StepMessage>, again: bool, expires: Option<i64>) {
        if expires.is_some_and(|it| it < self.now) {
            return;
        }
        let able: Vec<usize> = (0..self.workers.len())
            .filter(|it| self.workers[*it].alive && !self.workers[*it].deaf && self.stalled(*it).is_none())
            .collect();
        let chosen = self.choices.below(At::Who, able.len() as u64) as usize;
        let Some(&worker) = able.get(chosen) else {
            return self.after(1_000_000, Happening::Step(message.clone(), again, expires));
        };
        let attempt = message.attempt;
        let it = &mut self.workers[worker];
        if it.hand_of(attempt).is_some() {
            return;
        }
        match fate::meaning(message.pace, it.memory.get(&key(attempt)).copied(), again) {
            Meaning::Over => return,
            Meaning::Unsure => {
                let declined = Report::Declined { attempt, worker: it.id.clone() };
                let process = it.process;
                return self.soon(Happening::Report(worker, process, Arc::new(declined), None));
            }
            Meaning::New => (),
        }
        it.memory.insert(key(attempt), Fate::Untouched);
        it.next_hand += 1;
        let hand = it.next_hand;
        let new = Hand {
            message: message.clone(),
            expires,
            settled: false,
            phase: Phase::Waiting,
            since: 0,
            until: 0,
            job: Job::new((**message).clone(), self.bug),
            stop: None,
            result: None,
        };
        it.hands.insert(hand, new);
        let process = it.process;
        self.soon(Happening::Work(worker, process, hand));
    }
}
