//! A short step: one message each way. It ends within its bound of its start, its message is acknowledged
//! after its report is confirmed, and it is stopped at once when the connection is lost, since the broker then
//! gives the message to somebody else.

use crate::{attempts::Hand, lease::Lease, perform::perform, report::changed, worker::Worker};
use longshore_schema::{step::StepMessage, wire::Report};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Does one attempt. Dropping the future, or returning before the report is confirmed, gives the message back.
pub(crate) async fn run(worker: Arc<Worker>, message: StepMessage, mut hand: Hand, bound_s: u32) {
    let mut link = worker.courier.link();
    link.borrow_and_update();
    let Some(_slot) = worker.slot(&worker.short_slots, &message, &mut hand, &mut link).await else { return };
    if worker.clock.is_past(message.start_before) {
        return worker.expired(&hand);
    }
    let attempt = message.attempt;
    let lease = Arc::new(Lease::new(attempt, Instant::now() + Duration::from_secs(bound_s.into())));
    hand.begin(&lease);
    let result = tokio::select! {
        result = perform(&worker, message, &lease) => result,
        () = changed(&mut link) => {
            tracing::warn!("stopped: the connection to the broker was lost");
            return;
        }
    };
    let done = Report::Done { attempt, worker: worker.config.worker.clone(), result };
    // After the bound the engine acts by its own clock; until then a lost connection may come back.
    if worker.reports.until_confirmed(&done, || lease.check().is_err()).await {
        hand.reported();
        hand.settle();
    }
}
