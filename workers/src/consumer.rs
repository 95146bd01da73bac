//! Takes steps from one queue: reads each message, decides what this copy of it means, and starts a task for
//! it. The tasks hold the receipts; the broker's prefetch bounds how many there are.

use crate::{
    attempts::{Taken, Unsettled},
    long,
    report::changed,
    short,
    worker::Worker,
};
use longshore_courier::{Delivery, Inbox};
use longshore_schema::{
    step::{Pace, StepMessage},
    wire::Report,
};
use std::sync::Arc;
use tracing::Instrument as _;

/// Consumes the queue until the worker is asked to stop. The engine declares it, at the latest when the worker
/// has announced itself, so a queue that isn't there is tried again at the next welcome.
pub(crate) async fn keep_consuming(worker: Arc<Worker>, queue: String) {
    let mut inbox = None;
    let consume = async {
        let mut welcomed = worker.welcomes.subscribe();
        // Steps that come before the places are open would only fail.
        if worker.view.subscribe().wait_for(Option::is_some).await.is_err() {
            return;
        }
        loop {
            welcomed.borrow_and_update();
            match worker.courier.consume(&queue, worker.config.prefetch()).await {
                Ok(opened) => take_all(&worker, inbox.insert(opened)).await,
                Err(error) => tracing::info!(queue, error = format!("{error:#}"), "can't consume steps yet"),
            }
            changed(&mut welcomed).await;
        }
    };
    tokio::select! {
        () = worker.stop.cancelled() => (),
        () = consume => (),
    }
    // An inbox that ends gives back what is unsettled, and that may be under way here.
    worker.unsettled.wait().await;
}

async fn take_all(worker: &Arc<Worker>, inbox: &mut Box<dyn Inbox>) {
    while let Some(delivery) = inbox.next().await {
        take(worker, delivery);
    }
}

fn take(worker: &Arc<Worker>, Delivery { parcel, redelivered, receipt }: Delivery) {
    let copy = Unsettled::new(receipt, worker.unsettled.token());
    let message = match serde_json::from_slice::<StepMessage>(&parcel.body) {
        Ok(message) => message,
        Err(error) => {
            tracing::error!(%error, "a step message can't be read; it is given back");
            // A worker may not write to the queue of the dead: the broker moves it there after its deliveries are used up.
            drop(copy);
            return;
        }
    };
    let attempt = message.attempt;
    let span = tracing::info_span!(
        "attempt",
        operation.id = %attempt.operation,
        step.name = %message.step,
        step.seq = attempt.seq,
        way = ?attempt.way,
        attempt = attempt.n,
    );
    let _entered = span.enter();
    match worker.attempts.take(attempt, message.pace, redelivered, copy) {
        Taken::New(hand) => match message.pace {
            Pace::Short { bound_s } => worker.start(short::run(worker.clone(), message, hand, bound_s).in_current_span()),
            Pace::Long { lease_s } => worker.start(long::run(worker.clone(), message, hand, lease_s).in_current_span()),
        },
        Taken::Known => tracing::debug!("delivered again, and known here"),
        Taken::Unsure(copy) => {
            tracing::info!("declined: delivered again, and it may have been started elsewhere");
            let declined = Report::Declined { attempt, worker: worker.config.worker.clone() };
            worker.start(decline(worker.clone(), declined, copy).in_current_span());
        }
    }
}

/// Says that the attempt wasn't started. Its message stays with the broker until that is confirmed.
async fn decline(worker: Arc<Worker>, declined: Report, copy: Unsettled) {
    if worker.reports.until_confirmed(&declined, || worker.stop.is_cancelled()).await {
        copy.ack();
    }
}
