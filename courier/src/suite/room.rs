//! What every check needs: names of its own, couriers, parcels, and limits on waiting.

use super::Factory;
use crate::{Courier, Delivery, Inbox, Parcel, Properties, Queue, Unsent};
use bytes::Bytes;
use longshore_schema::wire::names;
use std::{sync::Arc, time::Duration};

/// No wait of a check is longer; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// One check's place to work in.
pub(super) struct Room {
    factory: Factory,
    /// In every name that the check uses, so that runs on one broker don't meet.
    pub(super) id: String,
}

impl Room {
    pub(super) fn new(factory: Factory) -> Room {
        Room { factory, id: uuid::Uuid::now_v7().simple().to_string() }
    }

    /// A new connection.
    pub(super) async fn courier(&self) -> Arc<dyn Courier> {
        within((self.factory)()).await
    }

    /// A connection with one durable queue that is bound to nothing, and the queue's name.
    pub(super) async fn queue(&self) -> (Arc<dyn Courier>, String) {
        let courier = self.courier().await;
        let name = self.name("work");
        courier.declare(&[durable(&name)]).await.expect("a durable queue is declared");
        (courier, name)
    }

    pub(super) fn name(&self, what: &str) -> String {
        format!("suite.{}.{what}", self.id)
    }
}

/// A durable queue that is bound to nothing.
pub(super) fn durable(name: &str) -> Queue {
    Queue::Durable { name: name.into(), exchange: String::new(), routing_key: String::new() }
}

/// An own queue with these bindings.
pub(super) fn own(name: &str, exchange: &str, keys: &[&str]) -> Queue {
    Queue::Own { name: name.into(), exchange: exchange.into(), routing_keys: keys.iter().map(|key| (*key).into()).collect() }
}

/// A persistent message to an exchange.
pub(super) fn parcel(exchange: &str, routing_key: &str, body: &str) -> Parcel {
    let properties = Properties { message_id: Some(body.chars().take(30).collect()), persistent: true, ..Properties::default() };
    let body = Bytes::copy_from_slice(body.as_bytes());
    Parcel { exchange: exchange.into(), routing_key: routing_key.into(), mandatory: false, properties, body }
}

/// A mandatory message straight into a queue.
pub(super) fn to_queue(queue: &str, body: &str) -> Parcel {
    Parcel { mandatory: true, ..parcel("", queue, body) }
}

/// Publishes, and every one must be confirmed.
pub(super) async fn send(courier: &Arc<dyn Courier>, parcels: Vec<Parcel>) {
    for (n, result) in publish(courier, parcels).await.into_iter().enumerate() {
        assert_eq!(result, Ok(()), "message {n} is confirmed");
    }
}

/// Publishes within the limit.
pub(super) async fn publish(courier: &Arc<dyn Courier>, parcels: Vec<Parcel>) -> Vec<Result<(), Unsent>> {
    within(courier.publish(parcels)).await
}

/// Consumes a queue that is there.
pub(super) async fn consume(courier: &Arc<dyn Courier>, queue: &str, prefetch: u16) -> Box<dyn Inbox> {
    within(courier.consume(queue, prefetch)).await.expect("the queue can be consumed")
}

/// The next delivery, which must come.
pub(super) async fn next(inbox: &mut Box<dyn Inbox>) -> Delivery {
    within(inbox.next()).await.expect("the inbox is open")
}

/// A delivery's body as text.
pub(super) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.parcel.body).into_owned()
}

/// What a queue is kept busy with until it is old enough.
pub(super) const FILLER: &str = "not yet";

/// The next delivery must be this one; it is acknowledged. Filler may come again: its acknowledgement may have
/// been on its way when the broker died.
pub(super) async fn take(inbox: &mut Box<dyn Inbox>, body: &str) {
    let mut delivery = next(inbox).await;
    while body != FILLER && delivery.redelivered && text(&delivery) == FILLER {
        delivery.receipt.ack();
        delivery = next(inbox).await;
    }
    assert_eq!(text(&delivery), body);
    delivery.receipt.ack();
}

/// The one message in `longshore.dead` with this body, acknowledged; what else is there goes too.
pub(super) async fn dead(courier: &Arc<dyn Courier>, body: &str) -> Parcel {
    let mut inbox = consume(courier, names::DEAD, 10).await;
    loop {
        let delivery = next(&mut inbox).await;
        let found = text(&delivery) == body;
        let parcel = delivery.parcel.clone();
        delivery.receipt.ack();
        if found {
            return parcel;
        }
    }
}

/// Publishes again and again until the answer is this one.
pub(super) async fn until_answered(courier: &Arc<dyn Courier>, parcel: Parcel, wanted: fn(&Result<(), Unsent>) -> bool) {
    let again = async {
        while !publish(courier, vec![parcel.clone()]).await.iter().all(wanted) {
            tokio::task::yield_now().await;
        }
    };
    within(again).await;
}

/// Waits, but not for ever.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it comes within a minute")
}
