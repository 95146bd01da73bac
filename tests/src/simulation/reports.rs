//! What workers' processes tell the engine: reports until they are confirmed, renewals of all leases together
//! (`report`, `progress`).

use super::{
    choices::{At, Focus},
    schedule::{Happening, Simulation},
    setup::WORKERS,
    workers::{Hand, Phase, is_long, key},
};
use longshore_engine::journal::Item;
use longshore_schema::wire::{Report, Running};
use longshore_workers::fate::Fate;
use std::sync::Arc;

/// Packs that one renewal carries.
const SEALED_PER_RENEWAL: usize = 2;

impl Simulation<'_> {
    /// Publishes a report until it is confirmed (`report.rs`).
    pub(super) fn report(&mut self, worker: usize, report: Arc<Report>, hand: Option<u64>) {
        let process = self.workers[worker].process;
        if self.workers[worker].deaf {
            return self.after(200_000, Happening::Report(worker, process, report, hand));
        }
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
    pub(super) fn give_back(&mut self, worker: usize, hand: Option<u64>) {
        let dropped = hand.and_then(|hand| self.workers[worker].hands.remove(&hand));
        if let Some(it) = dropped.filter(|it| !it.settled) {
            self.soon(Happening::Step(it.message, true, it.expires));
        }
    }

    pub(super) fn settle_and_forget(&mut self, worker: usize, hand: u64) {
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
        if self.workers[worker].deaf {
            return;
        }
        match self.choices.fault_at(&[Focus::Copies, Focus::Starts], "renewal lost", 12) {
            Some(fault) => self.say(|| format!("fault {fault}: a renewal of {} is lost", WORKERS[worker])),
            None => self.soon(Happening::Inbound(Item::Report(Arc::new(renew)), false)),
        }
    }
}
