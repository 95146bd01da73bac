//! A long step: it announces its start and waits for the engine's word, is acknowledged then, and lives by its
//! lease. It outlives the broker's connection, not its lease.

use crate::{
    attempts::{Hand, Word},
    lease::Lease,
    perform::perform,
    progress::ends,
    worker::Worker,
};
use longshore_schema::{
    fault::{Fault, code},
    step::{Pace, StepMessage},
    wire::{Outcome, Report},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest pause before an unanswered start is announced again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long an attempt that ended with a fault waits for the engine to count its last packs. Those that it
/// doesn't count then are found by the undo, in the store.
const FLUSH: Duration = Duration::from_secs(5);

/// Does one attempt. Dropping the future before the engine's word gives the message back.
pub(crate) async fn run(worker: Arc<Worker>, message: StepMessage, mut hand: Hand, lease_s: u32) {
    let mut link = worker.courier.link();
    link.borrow_and_update();
    let Some(_slot) = worker.slot(&worker.long_slots, &message, &mut hand, &mut link).await else { return };
    let since = Instant::now();
    let pace = match ask(&worker, &message, &mut hand, lease_s).await {
        Some(pace) => pace,
        None => return,
    };
    // From here on the lease says whose it is, not the message.
    hand.settle();
    let attempt = message.attempt;
    let result = if worker.stop.is_cancelled() {
        Outcome::Fault(handed_back())
    } else {
        under_lease(&worker, message, &hand, pace, since).await
    };
    let done = Report::Done { attempt, worker: worker.config.worker.clone(), result };
    if worker.reports.until_confirmed(&done, || false).await {
        hand.reported();
    }
}

/// Announces the start until the engine says something. `None`: it doesn't start, and its message is settled.
async fn ask(worker: &Worker, message: &StepMessage, hand: &mut Hand, lease_s: u32) -> Option<Pace> {
    let (worker_id, token) = (worker.config.worker.clone(), Some(hand.token()));
    let started = Report::Started { attempt: message.attempt, worker: worker_id, token };
    let again = AGAIN.min(Duration::from_secs(lease_s.into()) / 4);
    let announce = async {
        loop {
            worker.reports.until_confirmed(&started, || false).await;
            tokio::time::sleep(again).await;
        }
    };
    tokio::select! {
        biased;
        word = hand.word() => match word {
            Word::Go(pace, _) => Some(pace),
            Word::Stop => {
                tracing::info!("not started: the engine said no");
                hand.settle();
                None
            }
        },
        () = worker.clock.passed(message.start_before) => {
            worker.expired(hand);
            None
        }
        () = announce => None,
    }
}

/// Runs it under a lease that counts from the first announcement of the start: the engine's counts from later.
async fn under_lease(worker: &Arc<Worker>, message: StepMessage, hand: &Hand, pace: Pace, since: Instant) -> Outcome {
    let span = match pace {
        Pace::Long { lease_s } => Duration::from_secs(lease_s.into()),
        Pace::Short { bound_s } => Duration::from_secs(bound_s.into()),
    };
    let attempt = message.attempt;
    let lease = Arc::new(Lease::new(attempt, ends(since, span)));
    hand.begin(&lease);
    match pace {
        Pace::Long { .. } => worker.renewals.add(lease.clone(), span, since),
        // The engine chose a bound that isn't renewed.
        Pace::Short { .. } => (),
    }
    tracing::info!(lease_s = span.as_secs(), "started");
    let result = perform(worker, message, &lease).await;
    worker.renewals.remove(attempt);
    match &result {
        Outcome::Fault(_) => worker.renewals.flush(&lease, FLUSH).await,
        Outcome::Output(_) => (),
    }
    result
}

/// The fault of a step that the worker gave up because it was asked to stop.
pub(crate) fn handed_back() -> Fault {
    Fault::transient(code::STEP_HANDED_BACK, "the worker was asked to stop")
}
