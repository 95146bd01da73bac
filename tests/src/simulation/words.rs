//! The engine's words to workers' processes (`control`).

use super::{
    choices::{At, Focus},
    mutants::Bug,
    schedule::{Happening, Simulation},
    workers::{Phase, key, lease_us},
};
use longshore_schema::{
    fault::{Fault, code},
    step::Attempt,
    wire::{Control, Outcome, Report},
};
use longshore_workers::fate::Fate;
use std::sync::Arc;

impl Simulation<'_> {
    /// Words of the engine (`control.rs`).
    pub(super) fn obey(&mut self, worker: usize, control: &Control) {
        if self.workers[worker].deaf {
            return; // Its queue went with its connection.
        }
        match control {
            Control::Go { attempt, pace: _, token } => self.go(worker, *attempt, *token),
            Control::Stop { attempt } => self.stop(worker, *attempt),
            Control::Renewed { token, stop } => self.renewed(worker, *token, stop),
            Control::Welcome { .. } | Control::SiteChanged { .. } => (),
        }
    }

    /// Names the start of an attempt in hand.
    pub(super) fn token(&self, worker: usize, hand: u64) -> u64 {
        hand + (u64::from(self.workers[worker].process) << 32)
    }

    pub(super) fn go(&mut self, worker: usize, attempt: Attempt, token: Option<u64>) {
        let it = &self.workers[worker];
        match it.hand_of(attempt).map(|hand| (hand, &it.hands[&hand])) {
            Some((hand, known)) if known.phase == Phase::Wanting && token == Some(self.token(worker, hand)) => {
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
                let mut delay = self.choices.delay();
                if self.choices.is_about(Focus::Starts) {
                    delay += 1_000 * self.choices.below(At::Delay, 20_000) as i64;
                }
                self.after(delay, Happening::Report(worker, process, Arc::new(done), None));
            }
        }
    }

    pub(super) fn stop(&mut self, worker: usize, attempt: Attempt) {
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

    pub(super) fn renewed(&mut self, worker: usize, token: u64, stop: &[Attempt]) {
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
}
