//! The suite on a hub, and what only a hub does.

use super::*;
use crate::{Courier, Parcel, Properties, Queue, Unsent, suite};
use futures::FutureExt;
use longshore_schema::wire::names;

fn work() -> Queue {
    Queue::Durable { name: "work".into(), exchange: names::STEPS.into(), routing_key: "zone.*.kvm".into() }
}

fn step(n: usize) -> Parcel {
    let properties = Properties { message_id: Some(n.to_string()), persistent: true, ..Properties::default() };
    let (exchange, routing_key) = (names::STEPS.into(), "zone.z1.kvm".into());
    Parcel { exchange, routing_key, mandatory: true, properties, body: n.to_string().into() }
}

async fn collected(courier: &EmbeddedCourier) -> Vec<usize> {
    let mut inbox = courier.consume("work", 10).await.unwrap();
    let mut seen = vec![];
    while let Some(Some(delivery)) = inbox.next().now_or_never() {
        seen.push(String::from_utf8_lossy(&delivery.parcel.body).parse().unwrap());
        delivery.receipt.ack();
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept() {
    let hub = Embedded::new();
    let factory: suite::Factory = Arc::new(move || {
        let courier: Arc<dyn Courier> = Arc::new(hub.courier());
        async move { courier }.boxed()
    });
    suite::run_all(factory, |name| println!("{name}")).await;
}

#[tokio::test]
async fn what_was_confirmed_arrives_through_any_chaos() {
    let (mut doubled, mut reordered, mut lost, mut lost_but_arrived) = (0, 0, 0, 0);
    let mut counted = Mischief::default();
    for seed in 0..50 {
        let hub = Embedded::with_chaos(Chaos { seed, double: 0.1, reorder: 0.1, lose: 0.1, certain: None });
        let courier = hub.courier();
        courier.declare(&[work()]).await.unwrap();
        let answers = courier.publish((0..100).map(step).collect()).await;
        let seen = collected(&courier).await;
        for (n, answer) in answers.iter().enumerate() {
            let times = seen.iter().filter(|found| **found == n).count();
            assert!(times <= 2, "seed {seed}: {n} came {times} times");
            doubled += usize::from(times == 2);
            match answer {
                Ok(()) => assert!(times > 0, "seed {seed}: {n} was confirmed and didn't come"),
                Err(Unsent::Unconfirmed(_)) => {
                    lost += 1;
                    lost_but_arrived += usize::from(times > 0);
                }
                Err(Unsent::Unroutable { .. }) => panic!("seed {seed}: {n} has a queue"),
            }
        }
        reordered += usize::from(!seen.is_sorted());
        let done = hub.mischief();
        assert_eq!(done.reordered > 0, !seen.is_sorted(), "seed {seed}: {done:?}");
        counted.doubled += done.doubled;
        counted.dropped += done.dropped;
    }
    assert_eq!((counted.doubled, counted.dropped), (doubled, lost - lost_but_arrived));
    assert!(doubled > 100 && reordered > 40, "{doubled} doubled, {reordered} runs out of order");
    assert!(lost > 100 && lost_but_arrived > 50 && lost_but_arrived < lost, "{lost_but_arrived} of {lost} arrived");
}

#[tokio::test]
async fn what_is_certain_happens_to_the_first_messages_and_to_no_others() {
    let chaos = Chaos { seed: 0, double: 0.0, reorder: 0.0, lose: 0.0, certain: Some(names::STEPS) };
    for (chaos, confirmed, seen, mischief) in [
        (chaos, [false, true, true, true], vec![1, 2, 1, 3], Mischief { doubled: 1, dropped: 1, reordered: 1 }),
        (Chaos { certain: Some(names::COMMANDS), ..chaos }, [true; 4], vec![0, 1, 2, 3], Mischief::default()),
    ] {
        let hub = Embedded::with_chaos(chaos);
        let courier = hub.courier();
        courier.declare(&[work()]).await.unwrap();
        let answers = courier.publish((0..4).map(step).collect()).await;
        assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), confirmed);
        assert_eq!(collected(&courier).await, seen);
        assert_eq!(hub.mischief(), mischief);
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_chaos() {
    let run = async |seed| {
        let hub = Embedded::with_chaos(Chaos { seed, double: 0.2, reorder: 0.5, lose: 0.2, certain: None });
        let courier = hub.courier();
        courier.declare(&[work()]).await.unwrap();
        (courier.publish((0..50).map(step).collect()).await, collected(&courier).await)
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test]
async fn a_connection_made_again_gives_back_what_it_held_and_empties_its_own_queues() {
    let hub = Embedded::new();
    let courier = hub.courier();
    let own = Queue::Own { name: "own".into(), exchange: String::new(), routing_keys: vec![] };
    courier.declare(&[work(), own]).await.unwrap();
    courier.publish(vec![step(0), step(1), Parcel { exchange: String::new(), routing_key: "own".into(), ..step(2) }]).await;
    let mut inbox = courier.consume("work", 1).await.unwrap();
    let mut own = courier.consume("own", 1).await.unwrap();
    let held = inbox.next().await.unwrap();
    let mut link = courier.link();
    link.mark_unchanged();
    courier.reconnect();
    assert!(link.has_changed().unwrap());
    assert_eq!(*link.borrow(), 3);
    held.receipt.ack();
    let again = inbox.next().await.unwrap();
    assert_eq!((again.redelivered, again.parcel.body.as_ref()), (true, b"0".as_slice()));
    assert!(own.next().now_or_never().is_none(), "the own queue is empty");
    again.receipt.ack();
    assert_eq!(inbox.next().await.unwrap().parcel.body.as_ref(), b"1");
}

#[tokio::test]
async fn a_dropped_courier_gives_back_what_its_inboxes_held_even_while_they_live() {
    let hub = Embedded::new();
    let (one, two) = (hub.courier(), hub.courier());
    one.declare(&[work()]).await.unwrap();
    one.publish((0..3).map(step).collect()).await;
    let mut inbox = one.consume("work", 2).await.unwrap();
    let held = [inbox.next().await.unwrap(), inbox.next().await.unwrap()];
    drop(one);
    assert_eq!(collected(&two).await, [0, 1, 2]);
    drop(held);
    assert!(inbox.next().await.is_none());
    assert_eq!(collected(&two).await, [] as [usize; 0]);
}
