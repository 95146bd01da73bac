//! Sends reports to the engine. A report says what is true whenever it arrives, so one that wasn't confirmed
//! is simply sent again.

use longshore_courier::{Courier, Parcel, Properties, Unsent};
use longshore_schema::wire::{Report, names};
use std::{sync::Arc, time::Duration};

/// The first pause after a report that wasn't confirmed; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Sends one worker's reports.
pub(crate) struct Reports {
    courier: Arc<dyn Courier>,
    worker: String,
}

impl Reports {
    pub(crate) fn new(courier: Arc<dyn Courier>, worker: String) -> Reports {
        Reports { courier, worker }
    }

    /// Sends it once and waits for the confirm.
    pub(crate) async fn send(&self, report: &Report) -> Result<(), Unsent> {
        publish(self.courier.as_ref(), self.parcel(report)).await
    }

    /// Sends it until it is confirmed, again after every failure unless `give_up` says so. Whether it is confirmed.
    pub(crate) async fn until_confirmed(&self, report: &Report, give_up: impl Fn() -> bool) -> bool {
        until_confirmed(self.courier.as_ref(), &self.parcel(report), give_up).await
    }

    fn parcel(&self, report: &Report) -> Parcel {
        let body = serde_json::to_vec(report).expect("a report has only text keys");
        Parcel {
            exchange: names::REPORTS.into(),
            routing_key: self.worker.clone(),
            mandatory: false,
            properties: Properties { persistent: true, ..Properties::default() },
            body: body.into(),
        }
    }
}

/// Sends a parcel until it is confirmed, again after every failure unless `give_up` says so. Whether it is confirmed.
pub(crate) async fn until_confirmed(courier: &dyn Courier, parcel: &Parcel, give_up: impl Fn() -> bool) -> bool {
    let mut link = courier.link();
    let mut pause = FIRST_PAUSE;
    loop {
        link.borrow_and_update();
        let Err(unsent) = publish(courier, parcel.clone()).await else { return true };
        tracing::debug!(error = %unsent, "a message was not confirmed");
        if give_up() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
            () = changed(&mut link) => (),
        }
    }
}

/// Resolves when what is watched changes; never, once nobody can change it any more.
pub(crate) async fn changed<T>(watched: &mut tokio::sync::watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn publish(courier: &dyn Courier, parcel: Parcel) -> Result<(), Unsent> {
    let missing = || Unsent::Unconfirmed("the courier gave no answer".into());
    courier.publish(vec![parcel]).await.pop().unwrap_or_else(|| Err(missing()))
}
