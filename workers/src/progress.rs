//! Renews the leases of all long steps together: one message carries how far each is and which packs it
//! sealed, and the answer to it, not its sending, gives more time.
//!
//! **Invariant**: a lease ends for this worker at 80% of the span that the engine counts from a later instant,
//! so this worker has stopped before the engine acts.

use crate::{
    lease::Lease,
    report::{Reports, changed},
};
use longshore_schema::{
    fault::Fault,
    step::Attempt,
    steps::object::Sealed,
    wire::{Report, Running},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot, watch};

/// With that many packs in one answered renewal there are probably more: the next one doesn't wait.
const FULL_LOAD: usize = 100;
/// The longest pause after a renewal that could not be sent.
const AGAIN: Duration = Duration::from_secs(1);

/// The renewals of one worker.
pub(crate) struct Renewals {
    worker: String,
    reports: Arc<Reports>,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    /// Starts at random: an answer to a predecessor of the same name must not match.
    token: u64,
    held: HashMap<Attempt, Held>,
    /// Sent and not answered.
    sent: BTreeMap<u64, Sent>,
}

struct Held {
    lease: Arc<Lease>,
    span: Duration,
    due: Instant,
}

struct Sent {
    at: Instant,
    carried: Vec<Carried>,
    /// Who waits for the answer.
    waiter: Option<oneshot::Sender<()>>,
}

struct Carried {
    lease: Arc<Lease>,
    span: Duration,
    sealed: Vec<Sealed>,
}

/// When this worker's view of a lease ends that the engine grants for `span` from some instant after `sent`.
pub(crate) fn ends(sent: Instant, span: Duration) -> Instant {
    sent + span * 4 / 5
}

impl Renewals {
    pub(crate) fn new(worker: String, reports: Arc<Reports>, incarnation: uuid::Uuid) -> Renewals {
        // 52 bits, which every JSON reader keeps exactly.
        let token = (incarnation.as_u128() & ((1 << 52) - 1)) as u64;
        let state = Mutex::new(State { token, held: HashMap::new(), sent: BTreeMap::new() });
        Renewals { worker, reports, state, wake: Notify::new() }
    }

    /// Renews this lease from now on, every third of `span`; `since` is when its start was first announced.
    pub(crate) fn add(&self, lease: Arc<Lease>, span: Duration, since: Instant) {
        self.lock().held.insert(lease.attempt(), Held { lease, span, due: since + span / 3 });
        self.wake.notify_one();
    }

    /// Renews it no more.
    pub(crate) fn remove(&self, attempt: Attempt) {
        self.lock().held.remove(&attempt);
    }

    /// The engine answered a renewal.
    pub(crate) fn answered(&self, token: u64, stop: &[Attempt]) {
        let mut state = self.lock();
        let Some(sent) = state.sent.remove(&token) else { return };
        for Carried { lease, span, sealed } in sent.carried {
            if stop.contains(&lease.attempt()) {
                lease.stop(Fault::cancelled("the engine says that the attempt isn't current any more"));
                continue;
            }
            lease.renewed(ends(sent.at, span), &sealed);
            if let Some(held) = state.held.get_mut(&lease.attempt()).filter(|_| sealed.len() >= FULL_LOAD) {
                held.due = Instant::now();
                self.wake.notify_one();
            }
        }
        // Whoever waited may have stopped to.
        sent.waiter.map(|waiter| waiter.send(()));
    }

    /// Renews until it is dropped.
    pub(crate) async fn keep_renewing(&self, mut link: watch::Receiver<u64>) {
        link.borrow_and_update();
        loop {
            let due = self.lock().held.values().map(|it| it.due).min();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => self.renew_all().await,
                // The answers to what was sent over the old link are lost.
                () = changed(&mut link) => self.renew_all().await,
                () = self.wake.notified() => (),
            }
        }
    }

    /// Tells the engine about the packs that no answered renewal carried, and waits for its answers, at most
    /// `patience` in all. For an attempt that ended with a fault: its report has no place for them.
    pub(crate) async fn flush(&self, lease: &Arc<Lease>, patience: Duration) {
        let all = async {
            let mut left = lease.unrecorded().len();
            while left > 0 {
                let (waiter, answered) = oneshot::channel();
                let running = lease.running();
                let carried = Carried { lease: lease.clone(), span: Duration::ZERO, sealed: running.sealed.clone() };
                let token = self.note(vec![carried], Some(waiter));
                self.reports.until_confirmed(&self.report(token, vec![running]), || false).await;
                let before = std::mem::replace(&mut left, if answered.await.is_ok() { lease.unrecorded().len() } else { 0 });
                if left >= before {
                    return;
                }
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::debug!(packs = lease.unrecorded().len(), "sealed packs stay unrecorded: the engine did not answer");
        }
    }

    async fn renew_all(&self) {
        let (token, running, period) = {
            let now = Instant::now();
            let mut state = self.lock();
            let Some(span) = state.held.values().map(|it| it.span).min() else { return };
            let period = span / 3;
            let (mut carried, mut running) = (vec![], vec![]);
            for held in state.held.values_mut() {
                held.due = now + held.span / 3;
                let says = held.lease.running();
                carried.push(Carried { lease: held.lease.clone(), span: held.span, sealed: says.sealed.clone() });
                running.push(says);
            }
            drop(state);
            (self.note(carried, None), running, period)
        };
        // A publish that hangs must not keep the next renewal from being sent.
        let sent = tokio::time::timeout(period, async { self.reports.send(&self.report(token, running)).await });
        let failed = !matches!(sent.await, Ok(Ok(())));
        if failed {
            let again = Instant::now() + (period / 4).min(AGAIN);
            self.lock().held.values_mut().for_each(|held| held.due = held.due.min(again));
        }
    }

    /// Notes what a renewal that is about to be sent carries, and returns its token.
    fn note(&self, carried: Vec<Carried>, waiter: Option<oneshot::Sender<()>>) -> u64 {
        let at = Instant::now();
        let mut state = self.lock();
        state.token += 1;
        let token = state.token;
        // An answer that comes after the end of every lease that it is about would give no time.
        state.sent.retain(|_, sent| match &sent.waiter {
            Some(waiter) => !waiter.is_closed(),
            None => sent.carried.iter().any(|it| ends(sent.at, it.span) > at),
        });
        state.sent.insert(token, Sent { at, carried, waiter });
        token
    }

    fn report(&self, token: u64, running: Vec<Running>) -> Report {
        Report::Renew { worker: self.worker.clone(), token, running }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_courier::embedded::Embedded;
    use longshore_schema::{
        fault::{Class, code},
        ids::{OperationId, PackId},
        step::Way,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn renewals() -> Renewals {
        let courier = Arc::new(Embedded::new().courier());
        Renewals::new("w".into(), Arc::new(Reports::new(courier, "w".into())), uuid::Uuid::now_v7())
    }

    fn lease(left: Duration) -> Arc<Lease> {
        let attempt = Attempt { operation: OperationId::new(), seq: 0, n: 1, way: Way::Do };
        Arc::new(Lease::new(attempt, Instant::now() + left))
    }

    fn last_token(renewals: &Renewals) -> u64 {
        renewals.lock().token
    }

    #[tokio::test]
    async fn only_the_answer_to_a_renewal_gives_time() {
        let (renewals, lease) = (renewals(), lease(Duration::from_millis(50)));
        renewals.add(lease.clone(), HOUR, Instant::now());
        renewals.renew_all().await;
        renewals.answered(last_token(&renewals) + 1, &[]);
        renewals.answered(last_token(&renewals) - 1, &[]);
        assert_eq!(lease.stopped().await.code, code::LEASE_LOST);
    }

    #[tokio::test]
    async fn the_time_counts_from_the_sending_and_leaves_a_margin() {
        let (renewals, lease) = (renewals(), lease(HOUR));
        let span = Duration::from_secs(5 * 3600);
        renewals.add(lease.clone(), span, Instant::now());
        renewals.renew_all().await;
        let sent = renewals.lock().sent.values().next().unwrap().at;
        assert_eq!(ends(sent, span), sent + Duration::from_secs(4 * 3600));
        renewals.answered(last_token(&renewals), &[]);
        lease.check().unwrap();
        assert!(renewals.lock().sent.is_empty());
    }

    #[tokio::test]
    async fn renewals_that_are_never_answered_are_forgotten() {
        let (renewals, lease) = (renewals(), lease(HOUR));
        renewals.add(lease, Duration::ZERO, Instant::now());
        for _ in 0..50 {
            renewals.renew_all().await;
        }
        assert_eq!(renewals.lock().sent.len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_said_when_nothing_runs() {
        let (renewals, lease) = (renewals(), lease(HOUR));
        let before = last_token(&renewals);
        renewals.add(lease.clone(), HOUR, Instant::now());
        renewals.remove(lease.attempt());
        renewals.renew_all().await;
        assert_eq!(last_token(&renewals), before);
    }

    #[tokio::test]
    async fn an_attempt_that_is_not_current_stops_and_keeps_its_packs() {
        let (renewals, lease) = (renewals(), lease(HOUR));
        let pack = Sealed { id: PackId { operation: lease.attempt().operation, attempt: 1, n: 0 }, bytes: 1 };
        lease.sealed(pack.clone());
        renewals.add(lease.clone(), HOUR, Instant::now());
        renewals.renew_all().await;
        renewals.answered(last_token(&renewals), &[lease.attempt()]);
        assert_eq!(lease.check().unwrap_err().class, Class::Cancelled);
        assert_eq!(lease.unrecorded(), [pack]);
    }

    #[tokio::test]
    async fn a_full_renewal_that_was_answered_is_followed_by_the_next_at_once() {
        let (renewals, lease) = (renewals(), lease(HOUR));
        for n in 0..300 {
            lease.sealed(Sealed { id: PackId { operation: lease.attempt().operation, attempt: 1, n }, bytes: 1 });
        }
        renewals.add(lease.clone(), HOUR, Instant::now());
        renewals.renew_all().await;
        assert!(renewals.lock().held[&lease.attempt()].due > Instant::now());
        renewals.answered(last_token(&renewals), &[]);
        assert!(renewals.lock().held[&lease.attempt()].due <= Instant::now());
        assert_eq!(lease.unrecorded().len(), 100);
    }
}
