//! Listens to the engine: the worker's own queue, on which welcomes, words about attempts and answers to
//! renewals arrive. All of it is a hint that is asked for again, so it is acknowledged at once.

use crate::{attempts::Word, long::handed_back, worker::Worker};
use anyhow::Context as _;
use longshore_courier::{Delivery, Inbox, Queue};
use longshore_schema::{
    step::Attempt,
    wire::{Control, Outcome, Report, names},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Control messages on their way to this worker at once.
const PREFETCH: u16 = 200;
/// The queue of a predecessor that died may live until the broker notices: so long it is tried again.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(2);

/// Declares and opens the worker's own queue, however often that takes.
pub(crate) async fn open(worker: &Worker) -> anyhow::Result<Box<dyn Inbox>> {
    let start = Instant::now();
    loop {
        match try_open(worker).await {
            Ok(inbox) => return Ok(inbox),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(error) => tracing::info!(error = format!("{error:#}"), "can't open the control queue yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_open(worker: &Worker) -> anyhow::Result<Box<dyn Inbox>> {
    let id = &worker.config.worker;
    let name = names::control_queue(id);
    let routing_keys = vec![id.clone(), "all".into()];
    let queue = Queue::Own { name: name.clone(), exchange: names::CONTROL.into(), routing_keys };
    worker.courier.declare(&[queue]).await.context("declare the control queue")?;
    worker.courier.consume(&name, PREFETCH).await.context("consume the control queue")
}

/// Obeys control messages until the courier is closed.
pub(crate) async fn keep_listening(worker: Arc<Worker>, mut inbox: Box<dyn Inbox>) {
    while let Some(Delivery { parcel, receipt, .. }) = inbox.next().await {
        match serde_json::from_slice::<Control>(&parcel.body) {
            Ok(control) => obey(&worker, control),
            // A newer engine may say what this version doesn't know.
            Err(error) => tracing::warn!(%error, "a control message can't be read"),
        }
        receipt.ack();
    }
}

fn obey(worker: &Arc<Worker>, control: Control) {
    match control {
        Control::Welcome { now, site_version, places } => {
            worker.clock.answered(now, Instant::now());
            tracing::debug!(site_version, places = places.len(), "welcomed");
            worker.welcome(places);
        }
        Control::SiteChanged { site_version } => {
            tracing::info!(site_version, "the site changed");
            worker.announce_again.notify_one();
            worker.look_again.notify_one();
        }
        Control::Go { attempt, pace, token } => {
            if !worker.attempts.word(attempt, Word::Go(pace, token)) {
                tracing::info!(operation.id = %attempt.operation, attempt = attempt.n, "told to start what was dropped here");
                worker.start(refuse(worker.clone(), attempt));
            }
        }
        Control::Stop { attempt } => {
            worker.attempts.word(attempt, Word::Stop);
        }
        Control::Renewed { token, stop } => worker.renewals.answered(token, &stop),
    }
}

/// The word came after the attempt's time, or to a successor: nothing runs, so the engine needn't wait for the lease.
async fn refuse(worker: Arc<Worker>, attempt: Attempt) {
    let result = Outcome::Fault(handed_back());
    let done = Report::Done { attempt, worker: worker.config.worker.clone(), result };
    worker.reports.until_confirmed(&done, || worker.stop.is_cancelled()).await;
}
