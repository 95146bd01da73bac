//! What befalls workers' processes: they die, stand still, lose their connection, and what they had begun takes
//! effect late.

use super::{
    choices::{At, Focus},
    engines::step,
    job::Job,
    schedule::{Happening, Simulation},
    setup::{WORKERS, announcement},
    workers::{Phase, is_long, parts},
};
use longshore_schema::wire::Report;
use std::sync::Arc;

/// Nothing takes effect later than so many milliseconds after the end of its lease, or of its handler if that was sooner: a
/// store's grace is longer, as it must be. What a dead operation leaves against late commits is removed after it.
const LATEST_MS: u64 = 110_000;

impl Simulation<'_> {
    /// Which parts of the life of a step an attempt in hand is in.
    pub(super) fn parts_of(&self, worker: usize, hand: u64) -> Vec<Focus> {
        self.workers[worker].hands.get(&hand).map(parts).unwrap_or_default()
    }

    /// A process may die, stand still, or lose its connection.
    pub(super) fn something_happens_to(&mut self, worker: usize, hand: u64) -> bool {
        let here = self.parts_of(worker, hand);
        if let Some(fault) = self.choices.fault_at(&here, "worker death", 60) {
            self.say(|| format!("fault {fault}: {} dies", WORKERS[worker]));
            self.worker_dies(worker);
            return true;
        }
        if let Some(fault) = self.choices.fault_at(&here, "stall", 60) {
            let ms = 1_000 + self.choices.below(At::Delay, 90_000) as i64;
            self.say(|| format!("fault {fault}: {} stands still for {ms} ms", WORKERS[worker]));
            self.workers[worker].stalled_until = self.now + ms * 1000;
            if self.choices.one_in(At::Fault, 2) {
                self.is_given_up_by_the_broker(worker, ms * 1000);
            }
        } else if let Some(fault) = self.choices.fault_at(&here, "link lost", 80) {
            self.say(|| format!("fault {fault}: {} loses its connection", WORKERS[worker]));
            self.link_lost(worker);
        }
        false
    }

    /// The broker misses its heartbeats and delivers to others what it has; it goes on until it notices that.
    fn is_given_up_by_the_broker(&mut self, worker: usize, stall_us: i64) {
        let it = &mut self.workers[worker];
        it.deaf = true;
        let process = it.process;
        let unsettled = it.hands.values_mut().filter(|it| !it.settled);
        let back: Vec<_> = unsettled
            .map(|it| {
                it.settled = true;
                (it.message.clone(), it.expires)
            })
            .collect();
        for (message, expires) in back {
            self.soon(Happening::Step(message, true, expires));
        }
        let notices = self.choices.delay();
        self.after(stall_us + notices, Happening::Notices(worker, process));
    }

    /// It has a new connection.
    pub(super) fn notices(&mut self, worker: usize) {
        self.workers[worker].deaf = false;
        self.link_lost(worker);
    }

    /// What a stopped handler had begun, at the latest at the end of its lease, may still take effect, much later.
    pub(super) fn leave_late(&mut self, job: &Job, until: i64, here: &[Focus]) {
        let latest = until.min(self.now) + 1_000 * LATEST_MS.cast_signed() - self.now;
        if !self.waits_for_late || latest <= 0 {
            return;
        }
        if let Some(fault) = self.choices.fault_at(here, "late effect", 4) {
            self.say(|| format!("fault {fault}: what {} had begun takes effect later", step(&job.message.attempt)));
            let mut late = job.clone();
            late.late = true;
            let longest = if self.choices.one_in(At::Delay, 2) { 20_000 } else { LATEST_MS };
            let delay = 1_000 * self.choices.below(At::Delay, longest) as i64;
            self.after(delay.min(latest), Happening::Late(Box::new(late)));
        }
    }

    /// One request that was on its way when its process was stopped.
    pub(super) fn late(&mut self, job: &mut Job) {
        self.say(|| format!("late: {} of {}", job.message.step, step(&job.message.attempt)));
        self.known.count("late");
        let _ = job.advance(&mut self.world, &mut self.choices);
    }

    /// Short steps stop, what waits is given back; long steps go on.
    pub(super) fn link_lost(&mut self, worker: usize) {
        let hands: Vec<u64> = self.workers[worker].hands.keys().copied().collect();
        for hand in hands {
            let it = &self.workers[worker].hands[&hand];
            match (is_long(&it.message), it.phase) {
                (true, Phase::Running | Phase::Reporting) => (),
                (true, Phase::Wanting) if it.settled => (),
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

    pub(super) fn worker_dies(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        it.alive = false;
        it.process += 1;
        (it.renews, it.deaf) = (false, false);
        it.memory.clear();
        it.sent.clear();
        for hand in std::mem::take(&mut it.hands).into_values() {
            if hand.phase == Phase::Running {
                self.leave_late(&hand.job, hand.until, &parts(&hand));
            }
            if !hand.settled {
                self.soon(Happening::Step(hand.message, true, hand.expires));
            }
        }
        let soon = self.choices.one_in(At::Delay, 2);
        let ms = match (self.choices.is_about(Focus::Starts), soon) {
            (false, true) => self.choices.below(At::Delay, 3_000),
            (false, false) => self.choices.below(At::Delay, 40_000),
            // The word that it may start just finds its successor, or its message just comes in time again.
            (true, true) => self.choices.below(At::Delay, 500),
            (true, false) => 22_000 + self.choices.below(At::Delay, 7_000),
        };
        let away = 1_000 * (1 + ms as i64);
        self.after(away, Happening::WorkerStarts(worker));
    }

    pub(super) fn worker_starts(&mut self, worker: usize) {
        self.workers[worker].alive = true;
        let (process, announce) = (self.workers[worker].process, Report::Announce(announcement(WORKERS[worker])));
        self.soon(Happening::Report(worker, process, Arc::new(announce), None));
    }
}
