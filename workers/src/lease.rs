//! The worker's side of a lease: it says how long an attempt may still touch data, carries its progress and
//! its sealed packs to the next renewal, and ends it when it must stop.
//!
//! **Invariant**: after `until`, measured by this host's monotonic clock from the sending of the last start or
//! renewal that the engine answered, `check` fails for ever. The engine waits longer than that before it does
//! anything else with the step.

use longshore_schema::{
    fault::{Fault, code},
    step::Attempt,
    steps::object::Sealed,
    wire::Running,
};
use std::{
    sync::Mutex,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How many sealed packs one renewal carries at the most.
const SEALED_PER_RENEWAL: usize = 200;

/// One attempt's permission to act.
#[derive(Debug)]
pub struct Lease {
    attempt: Attempt,
    state: Mutex<State>,
    stop: CancellationToken,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    until: Instant,
    why: Option<Fault>,
    /// Sealed, and not known to be recorded by the engine.
    sealed: Vec<Sealed>,
}

impl Lease {
    /// A lease that ends at `until` unless it is renewed.
    pub fn new(attempt: Attempt, until: Instant) -> Lease {
        let state = Mutex::new(State { until, why: None, sealed: vec![] });
        Lease { attempt, state, stop: CancellationToken::new(), done_bytes: AtomicU64::new(0), total_bytes: AtomicU64::new(0) }
    }

    /// Which attempt it is about.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Call it before everything that changes something outside, and in every long loop. Fails once the
    /// attempt was told to stop or its lease has passed.
    pub fn check(&self) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.why.is_none() && Instant::now() >= state.until {
            state.why = Some(Fault::transient(code::LEASE_LOST, "the engine didn't renew the lease in time"));
            self.stop.cancel();
        }
        state.why.clone().map_or(Ok(()), Err)
    }

    /// Resolves when the attempt must stop, with the reason.
    pub async fn stopped(&self) -> Fault {
        loop {
            if let Err(fault) = self.check() {
                return fault;
            }
            let left = self.lock().until.saturating_duration_since(Instant::now());
            tokio::select! {
                () = self.stop.cancelled() => (),
                () = tokio::time::sleep(left.max(Duration::from_millis(1))) => (),
            }
        }
    }

    /// Ends the attempt. The first reason counts.
    pub fn stop(&self, why: Fault) {
        self.lock().why.get_or_insert(why);
        self.stop.cancel();
    }

    /// The engine answered a renewal: the attempt may go on until then, and the packs that it carried are
    /// recorded. Answers may come late and out of order. One that comes after the end gives no more time.
    pub fn renewed(&self, until: Instant, recorded: &[Sealed]) {
        let passed = self.check().is_err();
        let mut state = self.lock();
        if !passed {
            state.until = state.until.max(until);
        }
        state.sealed.retain(|pack| !recorded.contains(pack));
    }

    /// How far the work is, in bytes.
    pub fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.done_bytes.store(done_bytes, Relaxed);
        self.total_bytes.store(total_bytes, Relaxed);
    }

    /// Bytes done and in all.
    pub fn done_of_total(&self) -> (u64, u64) {
        (self.done_bytes.load(Relaxed), self.total_bytes.load(Relaxed))
    }

    /// A pack is in the store: the next renewal, or the report, says so.
    pub fn sealed(&self, pack: Sealed) {
        self.lock().sealed.push(pack);
    }

    /// The sealed packs that no answered renewal has carried: they go into the report.
    pub fn unrecorded(&self) -> Vec<Sealed> {
        self.lock().sealed.clone()
    }

    /// What the next renewal says about this attempt.
    pub fn running(&self) -> Running {
        let state = self.lock();
        let (done_bytes, total) = self.done_of_total();
        let total_bytes = (total > 0).then_some(total);
        let sealed = state.sealed.iter().take(SEALED_PER_RENEWAL).cloned().collect();
        Running { attempt: self.attempt, done_bytes, total_bytes, sealed }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_schema::{
        ids::{OperationId, PackId},
        step::Way,
    };

    fn lease(left: Duration) -> Lease {
        let attempt = Attempt { operation: OperationId::new(), seq: 0, n: 1, way: Way::Do };
        Lease::new(attempt, Instant::now() + left)
    }

    #[test]
    fn a_lease_that_passed_is_never_valid_again() {
        let lease = lease(Duration::ZERO);
        assert_eq!(lease.check().unwrap_err().code, code::LEASE_LOST);
        lease.renewed(Instant::now() + Duration::from_secs(60), &[]);
        assert_eq!(lease.check().unwrap_err().code, code::LEASE_LOST);
    }

    #[test]
    fn an_answer_after_the_end_gives_no_more_time_even_if_nobody_looked_before() {
        let lease = lease(Duration::ZERO);
        lease.renewed(Instant::now() + Duration::from_secs(60), &[]);
        assert_eq!(lease.check().unwrap_err().code, code::LEASE_LOST);
    }

    #[tokio::test]
    async fn a_stop_is_seen_at_once_and_its_first_reason_counts() {
        let lease = lease(Duration::from_secs(3600));
        lease.check().unwrap();
        lease.stop(Fault::cancelled("asked to"));
        lease.stop(Fault::transient(code::LEASE_LOST, "later"));
        assert_eq!(lease.stopped().await.code, code::CANCELLED);
    }

    #[test]
    fn a_pack_is_carried_until_an_answer_says_that_it_is_recorded() {
        let lease = lease(Duration::from_secs(3600));
        let pack = |n| Sealed { id: PackId { operation: lease.attempt().operation, attempt: 1, n }, bytes: 1 };
        lease.sealed(pack(0));
        assert_eq!(lease.running().sealed, [pack(0)]);
        lease.sealed(pack(1));
        lease.renewed(Instant::now(), &[pack(0)]);
        assert_eq!(lease.unrecorded(), [pack(1)]);
    }

    #[test]
    fn two_answers_that_carried_the_same_packs_record_no_other() {
        let lease = lease(Duration::from_secs(3600));
        let pack = |n| Sealed { id: PackId { operation: lease.attempt().operation, attempt: 1, n }, bytes: 1 };
        (0..2).for_each(|n| lease.sealed(pack(n)));
        let (first, second) = (lease.running().sealed, lease.running().sealed);
        lease.sealed(pack(2));
        lease.renewed(Instant::now(), &first);
        lease.renewed(Instant::now(), &second);
        assert_eq!(lease.unrecorded(), [pack(2)]);
    }
}
