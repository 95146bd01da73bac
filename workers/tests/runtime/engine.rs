//! The engine's side of the protocol, as far as a test needs it: it answers what a worker says by itself,
//! unless the test wants to.

use longshore_courier::{
    Courier, Delivery, Inbox, Parcel, Properties, Queue,
    embedded::{Embedded, EmbeddedCourier},
};
use longshore_schema::{
    ids::OperationId,
    site::Place,
    step::{Attempt, Pace, StepMessage, Way},
    time::Timestamp,
    wire::{Announce, Control, Report, names},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const NOON: Timestamp = Timestamp(1_795_000_000_000_000);
/// A test that waits longer for something fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub(crate) struct Engine {
    pub(crate) hub: Embedded,
    pub(crate) courier: EmbeddedCourier,
    /// What a welcome names.
    pub(crate) places: Vec<Place>,
    /// Whether renewals are answered by `report`, or returned by it.
    pub(crate) renews: bool,
    reports: Box<dyn Inbox>,
    /// Of a message that had several, those that weren't asked for yet.
    arrived: VecDeque<Report>,
    start: Instant,
}

impl Engine {
    /// An engine that declared the queues of zone `z1`, and of hosts `h1` and `h2`.
    pub(crate) async fn new(hub: Embedded) -> Engine {
        let courier = hub.courier();
        let durable = |exchange: &str, routing_key: &str, name: String| Queue::Durable {
            name,
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        };
        let reports = durable(names::REPORTS, "#", names::REPORTS.into());
        let steps = ["zone.z1.kvm", "host.h1", "host.h2"].map(|key| durable(names::STEPS, key, names::steps_queue(key)));
        courier.declare(&[reports]).await.unwrap();
        courier.declare(&steps).await.unwrap();
        let reports = courier.consume(names::REPORTS, 100).await.unwrap();
        Engine { hub, courier, places: vec![], renews: true, reports, arrived: VecDeque::new(), start: Instant::now() }
    }

    /// The database's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(NOON.0 + self.start.elapsed().as_micros() as i64)
    }

    /// The next report. Announcements are answered, and so are renewals if `renews`.
    pub(crate) async fn report(&mut self) -> Report {
        soon("a report", async {
            loop {
                match self.any_report().await {
                    Report::Announce(it) => self.welcome(&it).await,
                    Report::Renew { worker, token, .. } if self.renews => {
                        self.tell(&worker, &Control::Renewed { token, stop: vec![] }).await;
                    }
                    other => return other,
                }
            }
        })
        .await
    }

    /// The next announcement like this. Each is answered; anything else that comes before is an error.
    pub(crate) async fn announcement(&mut self, wanted: impl Fn(&Announce) -> bool) -> Announce {
        soon("an announcement", async {
            loop {
                match self.any_report().await {
                    Report::Announce(it) => {
                        self.welcome(&it).await;
                        if wanted(&it) {
                            return it;
                        }
                    }
                    other => panic!("{other:?} instead of an announcement"),
                }
            }
        })
        .await
    }

    /// The next renewal, unanswered.
    pub(crate) async fn renewal(&mut self) -> (u64, Vec<longshore_schema::wire::Running>) {
        self.renews = false;
        match self.report().await {
            Report::Renew { token, running, .. } => (token, running),
            other => panic!("{other:?} instead of a renewal"),
        }
    }

    /// The next report is that this attempt is about to start.
    pub(crate) async fn started(&mut self, wanted: Attempt) -> String {
        self.start_of(wanted).await.0
    }

    /// The same, with the start's token.
    pub(crate) async fn start_of(&mut self, wanted: Attempt) -> (String, Option<u64>) {
        match self.report().await {
            Report::Started { attempt, worker, token } if attempt == wanted => (worker, token),
            other => panic!("{other:?} instead of the start of {wanted:?}"),
        }
    }

    /// The next report is the end of this attempt.
    pub(crate) async fn done(&mut self, wanted: Attempt) -> longshore_schema::wire::Outcome {
        match self.report().await {
            Report::Done { attempt, result, .. } if attempt == wanted => result,
            other => panic!("{other:?} instead of the end of {wanted:?}"),
        }
    }

    pub(crate) async fn tell(&self, worker: &str, control: &Control) {
        self.publish(names::CONTROL, worker, serde_json::to_vec(control).unwrap()).await;
    }

    /// Sends a step that may start for a minute from now.
    pub(crate) async fn send(&self, key: &str, args: serde_json::Value, pace: Pace) -> Attempt {
        let message = self.message(args, pace);
        self.send_this(key, &message).await;
        message.attempt
    }

    pub(crate) fn message(&self, args: serde_json::Value, pace: Pace) -> StepMessage {
        let attempt = Attempt { operation: OperationId::new(), seq: 0, n: 1, way: Way::Do };
        let (step, input, start_before) = ("test.act".to_owned(), serde_json::Value::Null, self.now().plus_s(60));
        StepMessage { attempt, step, args, input, start_before, pace, may_write: None }
    }

    pub(crate) async fn send_this(&self, key: &str, message: &StepMessage) {
        self.publish(names::STEPS, key, serde_json::to_vec(message).unwrap()).await;
    }

    /// Publishes until it is confirmed, as the outbox does.
    pub(crate) async fn publish(&self, exchange: &str, key: &str, body: Vec<u8>) {
        let parcel = Parcel {
            exchange: exchange.into(),
            routing_key: key.into(),
            mandatory: exchange == names::STEPS || exchange.is_empty(),
            properties: Properties { persistent: true, ..Properties::default() },
            body: body.into(),
        };
        while self.courier.publish(vec![parcel.clone()]).await[0].is_err() {}
    }

    /// The next message of a queue, taken out of it.
    pub(crate) async fn take(&self, queue: &str) -> Parcel {
        let mut inbox = self.courier.consume(queue, 1).await.unwrap();
        let Delivery { parcel, receipt, .. } = soon("a message", inbox.next()).await.unwrap();
        receipt.ack();
        parcel
    }

    /// Delivers the next message of a queue to nobody in particular, so that it is a redelivered one.
    pub(crate) async fn disturb(&self, queue: &str) {
        let mut inbox = self.courier.consume(queue, 1).await.unwrap();
        soon("a message", inbox.next()).await.unwrap().receipt.requeue();
    }

    /// Whether nothing is left in a queue that nobody consumes.
    pub(crate) async fn assert_empty(&self, queue: &str) {
        self.publish("", queue, b"the last".to_vec()).await;
        assert_eq!(self.take(queue).await.body, "the last");
    }

    async fn welcome(&self, to: &Announce) {
        let welcome = Control::Welcome { now: self.now(), site_version: 1, places: self.places.clone() };
        self.tell(&to.worker, &welcome).await;
    }

    async fn any_report(&mut self) -> Report {
        while self.arrived.is_empty() {
            let Delivery { parcel, receipt, .. } = self.reports.next().await.unwrap();
            receipt.ack();
            assert_eq!(parcel.exchange, names::REPORTS);
            self.arrived = Report::of_message(&parcel.body).unwrap().into();
            for report in &self.arrived {
                let worker = match report {
                    Report::Announce(it) => &it.worker,
                    Report::Started { worker, .. }
                    | Report::Renew { worker, .. }
                    | Report::Done { worker, .. }
                    | Report::Declined { worker, .. } => worker,
                };
                assert_eq!(&parcel.routing_key, worker);
            }
        }
        self.arrived.pop_front().unwrap()
    }
}
