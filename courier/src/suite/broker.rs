//! What only RabbitMQ goes through: its death in the middle of everything, queues deleted under their
//! consumers, wrong addresses. The checks need a broker that nobody else uses.

use super::{Factory, room::*};
use crate::{Courier, Queue, Unsent, amqp};
use anyhow::Context;
use futures::future::BoxFuture;
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use longshore_schema::wire::names;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Does something to the broker and returns when it is done.
pub type Control = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A broker that may be killed.
#[derive(Clone)]
pub struct Broker {
    /// Its address, with credentials, the same after each start.
    pub url: String,
    /// Kills it with SIGKILL; nothing answers at the address afterwards.
    pub kill: Control,
    /// Starts it again with the same data, until it answers.
    pub start: Control,
}

/// Runs every check, one after the other; `started` is told the name of each before it runs.
pub async fn run_all(broker: Broker, started: impl Fn(&str)) {
    started("a_wrong_address_fails_at_once_and_tells_no_secret");
    a_wrong_address_fails_at_once_and_tells_no_secret(&broker).await;
    started("a_queue_of_another_type_is_named_with_what_differs");
    a_queue_of_another_type_is_named_with_what_differs(&broker).await;
    started("nothing_that_was_confirmed_is_lost_when_the_broker_dies");
    nothing_that_was_confirmed_is_lost_when_the_broker_dies(&broker).await;
    started("an_inbox_goes_on_after_the_broker_died");
    an_inbox_goes_on_after_the_broker_died(&broker).await;
    started("publishing_without_a_broker_is_answered");
    publishing_without_a_broker_is_answered(&broker).await;
    started("an_own_queue_is_there_again_after_the_broker_died");
    an_own_queue_is_there_again_after_the_broker_died(&broker).await;
    started("a_consumer_outlives_the_deletion_of_its_queue");
    a_consumer_outlives_the_deletion_of_its_queue(&broker).await;
}

/// Couriers on one broker, for `suite::run_all`.
pub fn factory(url: &str) -> Factory {
    let url = url.to_owned();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(async move { connected(&url).await })
    })
}

async fn connected(url: &str) -> Arc<dyn Courier> {
    Arc::new(amqp::connect(url, "longshore suite").await.expect("the broker answers"))
}

fn room(broker: &Broker) -> Room {
    Room::new(factory(&broker.url))
}

/// How old a quorum queue must be to survive a kill. Seen with RabbitMQ 3.10.8: one that is killed a fraction of a
/// second after its declaration comes back with an empty log, without a leader, its confirmed messages lost.
const REGISTERED: Duration = Duration::from_secs(3);

/// A durable queue that has been in use for long enough to survive.
async fn old_queue(room: &Room) -> (Arc<dyn Courier>, String) {
    let (courier, queue) = room.queue().await;
    let declared = Instant::now();
    let mut inbox = consume(&courier, &queue, 1).await;
    while declared.elapsed() < REGISTERED {
        send(&courier, vec![to_queue(&queue, FILLER)]).await;
        take(&mut inbox, FILLER).await;
    }
    (courier, queue)
}

/// Waits for a state of the link.
async fn linked(link: &mut watch::Receiver<u64>, wanted: impl FnMut(&u64) -> bool) -> u64 {
    *within(link.wait_for(wanted)).await.expect("the courier is open")
}

async fn a_wrong_address_fails_at_once_and_tells_no_secret(broker: &Broker) {
    let (_, place) = broker.url.rsplit_once('@').expect("the broker's address has credentials");
    for wrong in [format!("amqp://nobody:hunter2@{place}"), "amqp://guest:hunter2@127.0.0.1:1/%2f".into()] {
        let error = within(amqp::connect(&wrong, "longshore suite")).await.expect_err("it can't connect");
        let said = format!("{error:#} {error:?}");
        assert!(said.contains("connect to the broker at amqp://127.0.0.1") && !said.contains("hunter2"), "{said}");
    }
}

async fn a_queue_of_another_type_is_named_with_what_differs(broker: &Broker) {
    let room = room(broker);
    let name = room.name("classic");
    let raw = Raw::connect(&broker.url).await;
    raw.declare_classic(&name).await.expect("declared");
    let courier = room.courier().await;
    let error = courier.declare(&[durable(&name)]).await.expect_err("it is a classic queue");
    let said = format!("{error:#}");
    assert!(said.contains(&name) && said.contains("exists with other properties"), "{said}");
    assert!(said.contains("inequivalent arg"), "{said}");
    raw.delete(&name).await.expect("deleted");
    courier.declare(&[durable(&name)]).await.expect("nothing is in the way any more");
}

async fn a_consumer_outlives_the_deletion_of_its_queue(broker: &Broker) {
    let room = room(broker);
    let (courier, queue) = room.queue().await;
    let mut inbox = consume(&courier, &queue, 5).await;
    send(&courier, vec![to_queue(&queue, "before")]).await;
    take(&mut inbox, "before").await;
    Raw::connect(&broker.url).await.delete(&queue).await.expect("deleted");
    until_answered(&courier, to_queue(&queue, "after"), Result::is_ok).await;
    take(&mut inbox, "after").await;
    assert_eq!(*courier.link().borrow(), 1, "the connection was never lost");
}

async fn nothing_that_was_confirmed_is_lost_when_the_broker_dies(broker: &Broker) {
    let room = room(broker);
    let (courier, queue) = old_queue(&room).await;
    let (rounds, mut round) = watch::channel(0);
    let publishing = tokio::spawn({
        let (courier, queue) = (courier.clone(), queue.clone());
        async move {
            let mut confirmed = BTreeSet::new();
            for round in 0.. {
                let bodies: Vec<String> = (0..500).map(|n| format!("{round}/{n}")).collect();
                let answers = publish(&courier, bodies.iter().map(|body| to_queue(&queue, body)).collect()).await;
                let failed = answers.iter().any(Result::is_err);
                confirmed.extend(bodies.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(body, _)| body));
                if failed {
                    break;
                }
                rounds.send_replace(round);
            }
            confirmed
        }
    });
    let mut inbox = consume(&courier, &queue, 1).await;
    // Given back by the broker's death.
    let _held = next(&mut inbox).await;
    within(round.wait_for(|round| *round > 2)).await.expect("publishing goes on");
    within((broker.kill)()).await;
    let mut missing = within(publishing).await.expect("publishing ends when the broker is dead");
    assert!(!missing.is_empty(), "something was confirmed before the broker died");
    within((broker.start)()).await;
    drop(inbox);
    let other = room.courier().await;
    let mut inbox = consume(&other, &queue, 300).await;
    while !missing.is_empty() {
        let delivery = next(&mut inbox).await;
        missing.remove(&text(&delivery));
        delivery.receipt.ack();
    }
}

async fn an_inbox_goes_on_after_the_broker_died(broker: &Broker) {
    let room = room(broker);
    let (courier, queue) = old_queue(&room).await;
    let mut link = courier.link();
    send(&courier, ["done", "held", "kept"].map(|body| to_queue(&queue, body)).into()).await;
    let mut inbox = consume(&courier, &queue, 2).await;
    take(&mut inbox, "done").await;
    let held = next(&mut inbox).await;
    assert_eq!(text(&held), "held");
    // Fetched by the old connection, and not yet handed out.
    within((broker.kill)()).await;
    assert_eq!(linked(&mut link, |count| count.is_multiple_of(2)).await, 2);
    within((broker.start)()).await;
    assert_eq!(linked(&mut link, |count| !count.is_multiple_of(2)).await, 3);
    // Its tag means another message now: this must not settle that.
    held.receipt.ack();
    let mut seen = BTreeSet::new();
    while !seen.is_superset(&BTreeSet::from(["held".to_owned(), "kept".to_owned()])) {
        let delivery = next(&mut inbox).await;
        seen.insert(text(&delivery));
        // "done" may come again: its acknowledgement may have been on its way.
        assert!(delivery.redelivered || text(&delivery) == "kept", "{} was delivered before", text(&delivery));
        delivery.receipt.ack();
    }
    until_answered(&courier, to_queue(&queue, "new"), Result::is_ok).await;
    take(&mut inbox, "new").await;
}

async fn publishing_without_a_broker_is_answered(broker: &Broker) {
    let room = room(broker);
    let (courier, queue) = old_queue(&room).await;
    let mut link = courier.link();
    within((broker.kill)()).await;
    linked(&mut link, |count| count.is_multiple_of(2)).await;
    let answers = publish(&courier, (0..1_000).map(|n| to_queue(&queue, &format!("lost {n}"))).collect()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Unsent::Unconfirmed(_)))));
    assert!(within(courier.declare(&[durable(&queue)])).await.is_err());
    assert!(within(courier.consume(&queue, 1)).await.is_err());
    within((broker.start)()).await;
    until_answered(&courier, to_queue(&queue, "sent"), Result::is_ok).await;
    linked(&mut link, |count| !count.is_multiple_of(2)).await;
    take(&mut consume(&courier, &queue, 1).await, "sent").await;
}

async fn an_own_queue_is_there_again_after_the_broker_died(broker: &Broker) {
    let room = room(broker);
    let courier = room.courier().await;
    let name = room.name("own");
    let own = Queue::Own { name: name.clone(), exchange: names::CONTROL.into(), routing_keys: vec![name.clone(), "all".into()] };
    courier.declare(&[own]).await.expect("declared");
    let mut inbox = consume(&courier, &name, 5).await;
    within((broker.kill)()).await;
    within((broker.start)()).await;
    let mut control = parcel(names::CONTROL, &name, "stop");
    control.mandatory = true;
    until_answered(&courier, control, Result::is_ok).await;
    take(&mut inbox, "stop").await;
    let closing = courier.clone();
    within(closing.close()).await;
    assert!(within(inbox.next()).await.is_none());
}

/// A client of the broker without Longshore's manners.
struct Raw(Connection);

impl Raw {
    async fn connect(url: &str) -> Raw {
        Raw(within(Connection::connect(url, ConnectionProperties::default())).await.expect("the broker answers"))
    }

    async fn declare_classic(&self, queue: &str) -> anyhow::Result<()> {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let channel = self.0.create_channel().await.context("open a channel")?;
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.context("declare a queue")?;
        Ok(())
    }

    async fn delete(&self, queue: &str) -> anyhow::Result<()> {
        let channel = self.0.create_channel().await.context("open a channel")?;
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.context("delete a queue")?;
        Ok(())
    }
}
