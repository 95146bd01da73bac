//! What a worker's process does about an attempt in hand, one request after the other (`short`, `long`).

use super::{
    choices::{At, Focus},
    engines::step,
    job::Job,
    mutants::Bug,
    schedule::{Happening, Simulation},
    setup::WORKERS,
    workers::{Phase, is_long, key, lease_us},
};
use longshore_engine::journal::Item;
use longshore_schema::{
    fault::{Fault, code},
    step::{Step, StepMessage, Way},
    steps::{
        object::{Commit, Copy, Transfer},
        volume::Write,
    },
    wire::{Outcome, Report},
};
use longshore_workers::fate::Fate;
use std::{collections::BTreeSet, sync::Arc};

/// A start is announced again after this time, microseconds.
const AGAIN_US: i64 = 3_000_000;

impl Simulation<'_> {
    /// The next thing that a process does about an attempt.
    pub(super) fn work(&mut self, worker: usize, hand: u64) {
        if self.something_happens_to(worker, hand) {
            return;
        }
        if let Some(until) = self.stalled(worker) {
            return self.after(until - self.now, Happening::Work(worker, self.workers[worker].process, hand));
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

    pub(super) fn is_too_late(&self, worker: usize, hand: u64) -> bool {
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
        let started = Report::Started { attempt, worker: self.workers[worker].id.clone(), token: Some(self.token(worker, hand)) };
        let process = self.workers[worker].process;
        self.soon(Happening::Report(worker, process, Arc::new(started.clone()), None));
        if let Some(fault) = self.choices.fault_at(&[Focus::Starts], "death while wanting", 20) {
            self.say(|| format!("fault {fault}: {} dies as soon as it said that it wants {}", WORKERS[worker], step(&attempt)));
            self.soon(Happening::Inbound(Item::Report(Arc::new(started)), false));
            return self.worker_dies(worker);
        }
        self.after(AGAIN_US.min(start_before - self.now), Happening::Want(worker, process, hand));
    }

    pub(super) fn begin(&mut self, worker: usize, hand: u64, until: i64) {
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
    pub(super) fn soon_within(&mut self, worker: usize, hand: u64, until: i64) {
        let mut delay = self.choices.delay();
        // Copies that outlast a lease, or what is left of one.
        let longest = if self.choices.is_about(Focus::Copies) { 20_000 } else { 8_000 };
        let slow = self.choices.is_about(Focus::Copies) || self.choices.is_about(Focus::Starts);
        if slow && self.parts_of(worker, hand).contains(&Focus::Copies) {
            delay += 1_000 * self.choices.below(At::Delay, longest) as i64;
        }
        let delay = delay.min((until - self.now).max(1));
        let process = self.workers[worker].process;
        self.after(delay, Happening::Work(worker, process, hand));
    }

    pub(super) fn advance(&mut self, worker: usize, hand: u64) {
        let Some(it) = self.workers[worker].hands.get(&hand) else { return };
        let (attempt, until, mut job) = (it.message.attempt, it.until, it.job.clone());
        let lost = || Fault::transient(code::LEASE_LOST, "the engine didn't renew the lease in time");
        let stopped = it.stop.clone().or_else(|| (self.now >= until).then(lost));
        if let Some(fault) = stopped {
            let here = self.parts_of(worker, hand);
            self.leave_late(&job, until, &here);
            return self.ended(worker, hand, Outcome::Fault(fault));
        }
        self.check_alone(worker, hand);
        let here = self.parts_of(worker, hand);
        if self.store_is_away(&job, &here) {
            let away = Fault::transient(code::STORE_UNAVAILABLE, "the store is away");
            return self.ended(worker, hand, Outcome::Fault(away));
        }
        let fails = self.choices.fault_at(&here, "failure", 30);
        if let Some(fault) = fails
            && self.choices.one_in(At::Fault, 2)
        {
            return self.fails(worker, hand, fault);
        }
        self.check_sweep(&job);
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

    /// Whether no request to the store succeeds, for up to an hour: nobody's patience lasts as long.
    fn store_is_away(&mut self, job: &Job, here: &[Focus]) -> bool {
        if !["object.", "sweep."].iter().any(|it| job.message.step.starts_with(it)) {
            return false;
        }
        if self.now >= self.world.away_until
            && let Some(fault) = self.choices.fault_at(here, "outage", 2400)
        {
            let seconds = 60 + self.choices.below(At::Delay, 3540) as i64;
            self.say(|| format!("fault {fault}: the store is away for {seconds} s"));
            self.known.count("outage");
            self.world.away_until = self.now + seconds * 1_000_000;
        }
        self.now < self.world.away_until
    }

    pub(super) fn fails(&mut self, worker: usize, hand: u64, fault: u32) {
        let message = &self.workers[worker].hands[&hand].message;
        let full = match message.step.as_str() {
            Copy::NAME | Transfer::NAME | Commit::NAME => Some(code::STORE_FULL),
            Write::NAME => Some(code::POOL_FULL),
            _ => None,
        };
        let fails = match (self.choices.below(At::Fault, 6), full) {
            (0 | 1, _) => Fault::permanent(code::STORE_MISBEHAVED, "the simulation's permanent fault"),
            (2, Some(full)) => Fault::transient(full, "the simulation says that there is no room"),
            _ => Fault::transient(code::STORE_UNAVAILABLE, "the simulation's transient fault"),
        };
        let attempt = self.workers[worker].hands[&hand].message.attempt;
        self.say(|| format!("fault {fault}: {} fails: {fails}", step(&attempt)));
        self.ended(worker, hand, Outcome::Fault(fails));
    }

    /// A sweep takes nothing of what somebody is at work on, or is about to undo.
    fn check_sweep(&mut self, job: &Job) {
        let Some(chosen) = job.chosen() else { return };
        let packs = chosen.packs.into_iter().map(|it| it.operation).filter(|it| !self.world.were_ready.contains(it));
        let under_way: BTreeSet<_> = packs.chain(chosen.objects).filter(|it| !self.known.is_over(*it)).collect();
        if !under_way.is_empty() {
            self.wrong.push(format!("a sweep takes what these are at work on: {under_way:?}"));
        }
    }

    /// No other attempt acts at the same operation, or writes the same outside name.
    pub(super) fn check_alone(&mut self, worker: usize, hand: u64) {
        let ours = &self.workers[worker].hands[&hand];
        let (attempt, writes) = (ours.message.attempt, ours.job.writes());
        let acted = self.world.acted.entry(attempt.operation).or_default();
        if !acted.contains(&attempt) {
            acted.push(attempt);
        }
        if let Some(last) = acted.last().filter(|it| **it != attempt && !self.world.abandoned.contains(&attempt.operation)) {
            self.wrong.push(format!("{} acts, and {} acted since it began", step(&attempt), step(last)));
        }
        let rests = self.known.told.get(&attempt.operation).map_or(0, |it| it.should_rest_since(self.now));
        if attempt.way == Way::Do && rests > self.longest_us(&ours.message) {
            self.wrong.push(format!("{} acts {} s after it was to stop", step(&attempt), rests / 1_000_000));
        }
        for other in &self.workers {
            let acting = other.hands.values().filter(|it| it.phase == Phase::Running && it.until > self.now && other.alive);
            for it in acting.filter(|it| it.stop.is_none() && it.message.attempt != attempt) {
                let theirs = it.message.attempt;
                let same_operation = theirs.operation == attempt.operation && !self.world.abandoned.contains(&attempt.operation);
                if same_operation || (writes.is_some() && it.job.writes() == writes) {
                    self.wrong.push(format!("{} and {} act at once", step(&attempt), step(&theirs)));
                }
            }
        }
    }

    /// How long an attempt may act after nobody wants it any more: until its lease is over, or, if it needs none, until its
    /// bound is, from the last moment in which it may begin.
    fn longest_us(&self, message: &StepMessage) -> i64 {
        let window_s = if is_long(message) { 0 } else { self.config.start_window_s };
        lease_us(message) + i64::from(window_s) * 1_000_000
    }

    pub(super) fn ended(&mut self, worker: usize, hand: u64, result: Outcome) {
        let it = &mut self.workers[worker];
        let (id, process) = (it.id.clone(), it.process);
        let Some(ours) = it.hands.get_mut(&hand) else { return };
        (ours.phase, ours.result) = (Phase::Reporting, Some(result.clone()));
        let done = Report::Done { attempt: ours.message.attempt, worker: id, result };
        self.soon(Happening::Report(worker, process, Arc::new(done), Some(hand)));
    }
}
