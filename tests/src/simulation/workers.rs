//! Workers' processes, as `longshore_workers` runs them (`attempts`, `short`, `long`, `control`, `progress`): what a
//! copy of a message means, when a step starts, when it is fenced, what is said about it and what after a death.

use super::{
    choices::At,
    engines::step,
    job::Job,
    mutants::Bug,
    schedule::{Happening, Simulation},
    setup::WORKERS,
};
use longshore_engine::journal::Item;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::{Attempt, Pace, StepMessage},
    steps::object::Sealed,
    wire::{Control, Outcome, Report, Running},
};
use std::{collections::BTreeMap, sync::Arc};

/// A start is announced again after this time, microseconds.
const AGAIN_US: i64 = 3_000_000;
/// Packs that one renewal carries.
const SEALED_PER_RENEWAL: usize = 2;

/// Names an attempt: numbers count through all ways.
type Key = (OperationId, u16, u32);

pub(super) fn key(attempt: Attempt) -> Key {
    (attempt.operation, attempt.seq, attempt.n)
}

/// How far an attempt got in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Untouched,
    Begun,
    Reported,
}

/// Where an attempt in hand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Wanting,
    Running,
    Reporting,
}

#[derive(Debug, Clone)]
struct Hand {
    message: Arc<StepMessage>,
    expires: Option<i64>,
    settled: bool,
    phase: Phase,
    since: i64,
    /// The end of its lease, or of its bound.
    until: i64,
    job: Job,
    stop: Option<Fault>,
    result: Option<Outcome>,
}

type Carried = Vec<(u64, Vec<Sealed>)>;

/// One worker and its process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) process: u32,
    alive: bool,
    stalled_until: i64,
    hands: BTreeMap<u64, Hand>,
    next_hand: u64,
    memory: BTreeMap<Key, Fate>,
    token: u64,
    /// Renewals that aren't answered: when they were sent, and what they carried.
    sent: BTreeMap<u64, (i64, Carried)>,
    renews: bool,
}

impl Worker {
    pub(super) fn new(index: usize) -> Worker {
        Worker {
            id: WORKERS[index].into(),
            process: 0,
            alive: true,
            stalled_until: 0,
            hands: BTreeMap::new(),
            next_hand: 0,
            memory: BTreeMap::new(),
            token: 0,
            sent: BTreeMap::new(),
            renews: false,
        }
    }

    fn hand_of(&self, attempt: Attempt) -> Option<u64> {
        self.hands.iter().find(|(_, it)| it.message.attempt == attempt).map(|(hand, _)| *hand)
    }
}

fn lease_us(message: &StepMessage) -> i64 {
    match message.pace {
        Pace::Short { bound_s } => i64::from(bound_s) * 1_000_000,
        Pace::Long { lease_s } => i64::from(lease_s) * 1_000_000,
    }
}

fn is_long(message: &StepMessage) -> bool {
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
        let able: Vec<usize> =
            (0..self.workers.len()).filter(|it| self.workers[*it].alive && self.stalled(*it).is_none()).collect();
        let chosen = self.choices.below(At::Who, able.len() as u64) as usize;
        let Some(&worker) = able.get(chosen) else {
            return self.after(1_000_000, Happening::Step(message.clone(), again, expires));
        };
        let attempt = message.attempt;
        let it = &mut self.workers[worker];
        if it.hand_of(attempt).is_some() {
            return;
        }
        match (is_long(message), it.memory.get(&key(attempt)), again) {
            (_, Some(Fate::Reported), _) => return,
            (false, Some(Fate::Begun), _) | (false, None, true) => {
                let declined = Report::Declined { attempt, worker: it.id.clone() };
                let process = it.process;
                return self.soon(Happening::Report(worker, process, Arc::new(declined), None));
            }
            (true, Some(Fate::Begun | Fate::Untouched) | None, _) | (false, Some(Fate::Untouched), _) | (false, None, false) => {}
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

    /// The next thing that a process does about an attempt.
    pub(super) fn work(&mut self, worker: usize, hand: u64) {
        if self.something_happens_to(worker) {
            return;
        }
        let Some(it) = self.workers[worker].hands.get(&hand) else { return };
        match it.phase {
            Phase::Waiting if it.stop.is_some() => self.settle_and_forget(worker, hand),
            Phase::Waiting if self.is_too_late(worker, hand) => self.settle_and_forget(worker, hand),
            Phase::Waiting if is_long(&it.message) => {
                if let Some(it) = self.workers[worker].hands.get_mut(&hand) {
                    (it.phase, it.since) = (Phase::Wanting, self.now);
                }
                self.want(worker, hand);
            }
            Phase::Waiting => {
                let until = self.now + lease_us(&it.message);
                self.begin(worker, hand, until);
            }
            Phase::Wanting => (),
            Phase::Running => self.advance(worker, hand),
            Phase::Reporting => (),
        }
    }

    fn is_too_late(&self, worker: usize, hand: u64) -> bool {
        let start_before = self.workers[worker].hands[&hand].message.start_before.0;
        self.now >= start_before && self.bug != Some(Bug::IgnoreStartBefore)
    }

    /// Says, again and again, that it wants to start (`long.rs`).
    pub(super) fn want(&mut self, worker: usize, hand: u64) {
        let Some(it) = self.workers[worker].hands.get(&hand).filter(|it| it.phase == Phase::Wanting) else { return };
        let (attempt, start_before) = (it.message.attempt, it.message.start_before.0);
        if self.now >= start_before {
            return self.settle_and_forget(worker, hand);
        }
        let started = Report::Started { attempt, worker: self.workers[worker].id.clone() };
        let process = self.workers[worker].process;
        self.soon(Happening::Report(worker, process, Arc::new(started), None));
        self.after(AGAIN_US.min(start_before - self.now), Happening::Want(worker, process, hand));
    }

    fn begin(&mut self, worker: usize, hand: u64, until: i64) {
        let process = self.workers[worker].process;
        let Some(it) = self.workers[worker].hands.get_mut(&hand) else { return };
        (it.phase, it.until) = (Phase::Running, until);
        let attempt = it.message.attempt;
        self.workers[worker].memory.insert(key(attempt), Fate::Begun);
        self.say(|| format!("{} begins {}", WORKERS[worker], step(&attempt)));
        self.soon_within(worker, hand, until);
        if !self.workers[worker].renews {
            self.workers[worker].renews = true;
            self.after(i64::from(self.config.lease_s) * 1_000_000 / 3, Happening::Renew(worker, process));
        }
    }

    /// Its next request ends soon, or its lease before.
    fn soon_within(&mut self, worker: usize, hand: u64, until: i64) {
        let delay = self.choices.delay().min((until - self.now).max(1));
        let process = self.workers[worker].process;
        self.after(delay, Happening::Work(worker, process, hand));
    }

    fn advance(&mut self, worker: usize, hand: u64) {
        let Some(it) = self.workers[worker].hands.get(&hand) else { return };
        let (attempt, until, mut job) = (it.message.attempt, it.until, it.job.clone());
        let lost = || Fault::transient(code::LEASE_LOST, "the engine didn't renew the lease in time");
        let stopped = it.stop.clone().or_else(|| (self.now >= until).then(lost));
        if let Some(fault) = stopped {
            self.leave_late(&job);
            return self.ended(worker, hand, Outcome::Fault(fault));
        }
        self.check_alone(worker, hand);
        let fails = self.choices.fault("failure", 30);
        if let Some(fault) = fails
            && self.choices.one_in(At::Fault, 2)
        {
            return self.fails(worker, hand, fault);
        }
        let ended = job.advance(&mut self.world, &mut self.choices);
        if let Some(it) = self.workers[worker].hands.get_mut(&hand) {
            it.job = job;
        }
        match (fails, ended) {
            (Some(fault), _) => self.fails(worker, hand, fault),
            (None, Some(Ok(output))) => self.ended(worker, hand, Outcome::Output(output)),
            (None, Some(Err(fault))) => {
                self.say(|| format!("{} fails: {fault}", step(&attempt)));
                self.ended(worker, hand, Outcome::Fault(fault));
            }
            (None, None) => self.soon_within(worker, hand, until),
        }
    }

    fn fails(&mut self, worker: usize, hand: u64, fault: u32) {
        let fails = match self.choices.one_in(At::Fault, 3) {
            true => Fault::permanent(code::INTERNAL, "the simulation's permanent fault"),
            false => Fault::transient(code::STORE_UNAVAILABLE, "the simulation's transient fault"),
        };
        let attempt = self.workers[worker].hands[&hand].message.attempt;
        self.say(|| format!("fault {fault}: {} fails: {fails}", step(&attempt)));
        self.ended(worker, hand, Outcome::Fault(fails));
    }

    /// What a stopped handler had begun may still take effect, much later.
    fn leave_late(&mut self, job: &Job) {
        if let Some(fault) = self.choices.fault("late effect", 4) {
            self.say(|| format!("fault {fault}: what {} had begun takes effect later", step(&job.message.attempt)));
            let mut late = job.clone();
            late.late = true;
            let delay = 1_000 * self.choices.below(At::Delay, 90_000) as i64;
            self.after(delay, Happening::Late(Box::new(late)));
        }
    }

    /// One request that was on its way when its process was stopped.
    pub(super) fn late(&mut self, job: &mut Job) {
        self.say(|| format!("late: {} of {}", job.message.step, step(&job.message.attempt)));
        let _ = job.advance(&mut self.world, &mut self.choices);
        self.late_wrote = true;
    }

    /// No other attempt acts at the same operation, or writes the same outside name.
    fn check_alone(&mut self, worker: usize, hand: u64) {
        let ours = &self.workers[worker].hands[&hand];
        let (attempt, writes) = (ours.message.attempt, ours.job.writes());
        for other in &self.workers {
            let acting = other.hands.values().filter(|it| it.phase == Phase::Running && it.until > self.now && other.alive);
            for it in acting.filter(|it| it.stop.is_none() && it.message.attempt != attempt) {
                let theirs = it.message.attempt;
                let same_operation = theirs.operation == attempt.operation && !self.world.given_up.contains(&attempt.operation);
                if same_operation || (writes.is_some() && it.job.writes() == writes) {
                    self.wrong.push(format!("{} and {} act at once", step(&attempt), step(&theirs)));
                }
            }
        }
    }

    fn ended(&mut self, worker: usize, hand: u64, result: Outcome) {
        let it = &mut self.workers[worker];
        let (id, process) = (it.id.clone(), it.process);
        let Some(ours) = it.hands.get_mut(&hand) else { return };
        (ours.phase, ours.result) = (Phase::Reporting, Some(result.clone()));
        let done = Report::Done { attempt: ours.message.attempt, worker: id, result };
        self.soon(Happening::Report(worker, process, Arc::new(done), Some(hand)));
    }

    /// Publishes a report until it is confirmed (`report.rs`).
    pub(super) fn report(&mut self, worker: usize, report: Arc<Report>, hand: Option<u64>) {
        let process = self.workers[worker].process;
        if let Some(fault) = self.choices.fault("report unconfirmed", 30) {
            let arrives = self.choices.one_in(At::Fault, 2);
            self.say(|| format!("fault {fault}: a report of {} isn't confirmed; it arrives: {arrives}", WORKERS[worker]));
            if arrives {
                self.soon(Happening::Inbound(Item::Report(report.clone()), false));
            }
            let gives_up = |it: &Hand| !is_long(&it.message) && it.until <= self.now;
            match hand.and_then(|hand| self.workers[worker].hands.get(&hand)) {
                Some(it) if gives_up(it) => self.give_back(worker, hand),
                Some(_) | None => self.after(200_000, Happening::Report(worker, process, report, hand)),
            }
            return;
        }
        if let Some(fault) = self.choices.fault("report twice", 30) {
            self.say(|| format!("fault {fault}: a report of {} comes twice", WORKERS[worker]));
            self.soon(Happening::Inbound(Item::Report(report.clone()), false));
        }
        self.soon(Happening::Inbound(Item::Report(report), false));
        if let Some(it) = hand.and_then(|hand| self.workers[worker].hands.remove(&hand)) {
            self.workers[worker].memory.insert(key(it.message.attempt), Fate::Reported);
        }
    }

    /// An attempt is dropped and its message delivered again.
    fn give_back(&mut self, worker: usize, hand: Option<u64>) {
        let dropped = hand.and_then(|hand| self.workers[worker].hands.remove(&hand));
        if let Some(it) = dropped.filter(|it| !it.settled) {
            self.soon(Happening::Step(it.message, true, it.expires));
        }
    }

    fn settle_and_forget(&mut self, worker: usize, hand: u64) {
        self.workers[worker].hands.remove(&hand);
    }

    /// All long steps under way are renewed with one message (`progress.rs`).
    pub(super) fn renew(&mut self, worker: usize) {
        let now = self.now;
        let it = &mut self.workers[worker];
        let running = it.hands.iter().filter(|(_, it)| it.phase == Phase::Running && is_long(&it.message));
        let running: Vec<(u64, Running)> = running
            .map(|(hand, it)| {
                let sealed = it.job.sealed.iter().take(SEALED_PER_RENEWAL).cloned().collect();
                (*hand, Running { attempt: it.message.attempt, done_bytes: 1, total_bytes: Some(2), sealed })
            })
            .collect();
        if running.is_empty() {
            it.renews = false;
            return;
        }
        it.token += 1;
        let token = it.token + (u64::from(it.process) << 32);
        it.sent.insert(token, (now, running.iter().map(|(hand, it)| (*hand, it.sealed.clone())).collect()));
        let running = running.into_iter().map(|it| it.1).collect();
        let renew = Report::Renew { worker: it.id.clone(), token, running };
        let process = it.process;
        self.after(i64::from(self.config.lease_s) * 1_000_000 / 3, Happening::Renew(worker, process));
        match self.choices.fault("renewal lost", 12) {
            Some(fault) => self.say(|| format!("fault {fault}: a renewal of {} is lost", WORKERS[worker])),
            None => self.soon(Happening::Inbound(Item::Report(Arc::new(renew)), false)),
        }
    }

    /// Words of the engine (`control.rs`).
    pub(super) fn obey(&mut self, worker: usize, control: &Control) {
        match control {
            Control::Go { attempt, pace: _ } => self.go(worker, *attempt),
            Control::Stop { attempt } => self.stop(worker, *attempt),
            Control::Renewed { token, stop } => self.renewed(worker, *token, stop),
            Control::Welcome { .. } | Control::SiteChanged { .. } => (),
        }
    }

    fn go(&mut self, worker: usize, attempt: Attempt) {
        let it = &self.workers[worker];
        match it.hand_of(attempt).map(|hand| (hand, &it.hands[&hand])) {
            Some((hand, known)) if known.phase == Phase::Wanting => {
                // It ends for the worker at 80% of what the engine counts from later.
                let until = known.since + lease_us(&known.message) * 4 / 5;
                if let Some(it) = self.workers[worker].hands.get_mut(&hand) {
                    it.settled = true;
                }
                self.begin(worker, hand, until);
            }
            Some(_) => (),
            None if it.memory.get(&key(attempt)) == Some(&Fate::Reported) => (),
            None => {
                // It came to a successor: nothing runs, so the engine needn't wait for the lease.
                let fault = Fault::transient(code::STEP_HANDED_BACK, "the worker was asked to stop");
                let done = Report::Done { attempt, worker: it.id.clone(), result: Outcome::Fault(fault) };
                let process = it.process;
                if self.bug != Some(Bug::ForgetRefusal) {
                    self.workers[worker].memory.insert(key(attempt), Fate::Reported);
                }
                self.soon(Happening::Report(worker, process, Arc::new(done), None));
            }
        }
    }

    fn stop(&mut self, worker: usize, attempt: Attempt) {
        let Some(hand) = self.workers[worker].hand_of(attempt) else { return };
        let process = self.workers[worker].process;
        let Some(it) = self.workers[worker].hands.get_mut(&hand) else { return };
        match it.phase {
            Phase::Waiting | Phase::Wanting => self.settle_and_forget(worker, hand),
            Phase::Running => {
                it.stop.get_or_insert(Fault::cancelled("the engine asked to stop"));
                self.after(1, Happening::Work(worker, process, hand));
            }
            Phase::Reporting => (),
        }
    }

    fn renewed(&mut self, worker: usize, token: u64, stop: &[Attempt]) {
        let Some((at, carried)) = self.workers[worker].sent.remove(&token) else { return };
        for (hand, sealed) in carried {
            let Some(it) = self.workers[worker].hands.get_mut(&hand) else { continue };
            let attempt = it.message.attempt;
            if stop.contains(&attempt) {
                self.stop(worker, attempt);
                continue;
            }
            if it.until > self.now {
                it.until = it.until.max(at + lease_us(&it.message) * 4 / 5);
            }
            it.job.sealed.retain(|pack| !sealed.contains(pack));
        }
    }

    /// A process may die, stand still, or lose its connection.
    fn something_happens_to(&mut self, worker: usize) -> bool {
        if let Some(fault) = self.choices.fault("worker death", 60) {
            self.say(|| format!("fault {fault}: {} dies", WORKERS[worker]));
            self.worker_dies(worker);
            return true;
        }
        if let Some(fault) = self.choices.fault("stall", 60) {
            let ms = 1_000 + self.choices.below(At::Delay, 90_000) as i64;
            self.say(|| format!("fault {fault}: {} stands still for {ms} ms", WORKERS[worker]));
            self.workers[worker].stalled_until = self.now + ms * 1000;
        } else if let Some(fault) = self.choices.fault("link lost", 80) {
            self.say(|| format!("fault {fault}: {} loses its connection", WORKERS[worker]));
            self.link_lost(worker);
        }
        false
    }

    /// Short steps stop, what waits is given back; long steps go on.
    pub(super) fn link_lost(&mut self, worker: usize) {
        let hands: Vec<u64> = self.workers[worker].hands.keys().copied().collect();
        for hand in hands {
            let it = &self.workers[worker].hands[&hand];
            match (is_long(&it.message), it.phase) {
                (true, Phase::Running | Phase::Reporting) => (),
                (true, Phase::Wanting) => {
                    let (message, expires) = (it.message.clone(), it.expires);
                    self.soon(Happening::Step(message, true, expires));
                }
                (_, Phase::Waiting) | (false, Phase::Wanting | Phase::Running) => self.give_back(worker, Some(hand)),
                // Its report is sent again when the connection is there again.
                (false, Phase::Reporting) => (),
            }
        }
    }

    fn worker_dies(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        it.alive = false;
        it.process += 1;
        it.renews = false;
        it.memory.clear();
        it.sent.clear();
        for hand in std::mem::take(&mut it.hands).into_values() {
            if hand.phase == Phase::Running {
                self.leave_late(&hand.job);
            }
            if !hand.settled {
                self.soon(Happening::Step(hand.message, true, hand.expires));
            }
        }
        let longest = if self.choices.one_in(At::Delay, 2) { 3_000 } else { 40_000 };
        let away = 1_000 * (1 + self.choices.below(At::Delay, longest) as i64);
        self.after(away, Happening::WorkerStarts(worker));
    }

    pub(super) fn worker_starts(&mut self, worker: usize) {
        self.workers[worker].alive = true;
    }
}
