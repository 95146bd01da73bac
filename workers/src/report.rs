//! Sends reports to the engine. A report says what is true whenever it arrives, so one that wasn't confirmed is simply
//! sent again. One that comes while others are on their way waits for their confirm, and goes with all that came meanwhile:
//! few steps cost a message each, and however many end in a moment cost a few.

use longshore_courier::{Courier, Parcel, Properties, Unsent};
use longshore_schema::wire::{Report, names};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// The first pause after a report that wasn't confirmed; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Reports in one message, at the most.
const MOST: usize = 256;
/// Bytes of reports to which no more are added.
const ENOUGH: usize = 64 << 10;

/// Sends one worker's reports. Those that come while others are on their way go together in the next message.
pub(crate) struct Reports {
    courier: Arc<dyn Courier>,
    worker: String,
    waiting: mpsc::UnboundedSender<Waiting>,
}

struct Waiting {
    /// As JSON.
    report: Vec<u8>,
    confirmed: oneshot::Sender<Result<(), Unsent>>,
}

impl Reports {
    pub(crate) fn new(courier: Arc<dyn Courier>, worker: String) -> Reports {
        let (waiting, inbox) = mpsc::unbounded_channel();
        tokio::spawn(send_together(courier.clone(), worker.clone(), inbox));
        Reports { courier, worker, waiting }
    }

    /// Sends it once and waits for the confirm.
    pub(crate) async fn send(&self, report: &Report) -> Result<(), Unsent> {
        publish(self.courier.as_ref(), parcel(&self.worker, json(report))).await
    }

    /// Sends it until it is confirmed, again after every failure unless `give_up` says so. Whether it is confirmed.
    pub(crate) async fn until_confirmed(&self, report: &Report, give_up: impl Fn() -> bool) -> bool {
        let report = json(report);
        let mut link = self.courier.link();
        let mut pause = FIRST_PAUSE;
        loop {
            link.borrow_and_update();
            let Err(unsent) = self.send_with_others(report.clone()).await else { return true };
            tracing::debug!(error = %unsent, "a report was not confirmed");
            if give_up() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
                () = changed(&mut link) => (),
            }
        }
    }

    async fn send_with_others(&self, report: Vec<u8>) -> Result<(), Unsent> {
        let (confirmed, answer) = oneshot::channel();
        // Without its task nobody answers.
        let _ended = self.waiting.send(Waiting { report, confirmed });
        answer.await.unwrap_or_else(|_| Err(Unsent::Unconfirmed("the worker ends".into())))
    }
}

/// One message after the other, each with all that has come since the last.
async fn send_together(courier: Arc<dyn Courier>, worker: String, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut bytes = first.report.len();
        let mut together = vec![first];
        while together.len() < MOST
            && bytes < ENOUGH
            && let Ok(next) = waiting.try_recv()
        {
            bytes += next.report.len();
            together.push(next);
        }
        let body = match together.as_slice() {
            [alone] => alone.report.clone(),
            several => {
                let reports: Vec<&[u8]> = several.iter().map(|it| it.report.as_slice()).collect();
                let head = format!(r#"{{"report":"{}","reports":["#, Report::SEVERAL);
                [head.as_bytes(), &reports.join(&b','), b"]}"].concat()
            }
        };
        let sent = publish(courier.as_ref(), parcel(&worker, body)).await;
        for it in together {
            // Who waited may be gone.
            let _ = it.confirmed.send(sent.clone());
        }
    }
}

fn json(report: &Report) -> Vec<u8> {
    serde_json::to_vec(report).expect("a report has only text keys")
}

fn parcel(worker: &str, body: Vec<u8>) -> Parcel {
    Parcel {
        exchange: names::REPORTS.into(),
        routing_key: worker.to_owned(),
        mandatory: false,
        properties: Properties { persistent: true, ..Properties::default() },
        body: body.into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use longshore_courier::{Inbox, Queue, embedded::Embedded};
    use longshore_schema::{
        ids::OperationId,
        step::{Attempt, Way},
    };
    use tokio::sync::Semaphore;

    /// A broker that takes its time: each message waits for a permit.
    struct Slow {
        courier: Arc<dyn Courier>,
        begun: Semaphore,
        permits: Semaphore,
    }

    #[async_trait]
    impl Courier for Slow {
        async fn declare(&self, queues: &[Queue]) -> anyhow::Result<()> {
            self.courier.declare(queues).await
        }

        async fn publish(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>> {
            self.begun.add_permits(1);
            self.permits.acquire().await.unwrap().forget();
            self.courier.publish(parcels).await
        }

        async fn consume(&self, queue: &str, prefetch: u16) -> anyhow::Result<Box<dyn Inbox>> {
            self.courier.consume(queue, prefetch).await
        }

        fn link(&self) -> tokio::sync::watch::Receiver<u64> {
            self.courier.link()
        }

        fn is_local(&self) -> bool {
            self.courier.is_local()
        }

        async fn close(&self) {
            self.courier.close().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_one_is_on_its_way_goes_together_in_order() {
        let courier = Arc::new(Embedded::new().courier());
        let queue = Queue::Durable { name: "reports".into(), exchange: names::REPORTS.into(), routing_key: "#".into() };
        courier.declare(&[queue]).await.unwrap();
        let mut inbox = courier.consume("reports", 10).await.unwrap();
        let slow = Arc::new(Slow { courier, begun: Semaphore::new(0), permits: Semaphore::new(0) });
        let reports = Reports::new(slow.clone(), "w".into());
        let all: Vec<Report> = (0..600)
            .map(|n| {
                let attempt = Attempt { operation: OperationId::new(), seq: n, n: 1, way: Way::Do };
                Report::Declined { attempt, worker: "w".into() }
            })
            .collect();
        let first = reports.until_confirmed(&all[0], || true);
        let later = futures::future::join_all(all[1..].iter().map(|it| reports.until_confirmed(it, || true)));
        let watch = async {
            // The first is with the broker before another one comes, and the others have come before it is confirmed.
            slow.begun.acquire().await.unwrap().forget();
            let released = async {
                tokio::task::yield_now().await;
                slow.permits.add_permits(4);
            };
            let (confirmed, ()) = tokio::join!(later, released);
            assert!(confirmed.into_iter().all(|it| it));
        };
        assert!(tokio::join!(first, watch).0);
        let mut messages = vec![];
        while messages.iter().map(Vec::len).sum::<usize>() < all.len() {
            let delivery = inbox.next().await.unwrap();
            messages.push(Report::of_message(&delivery.parcel.body).unwrap());
            delivery.receipt.ack();
        }
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [1, MOST, MOST, 600 - 1 - 2 * MOST]);
        assert_eq!(messages.concat(), all);
    }
}
