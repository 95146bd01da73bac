//! Inboxes: prefetch, sharing, waiting and ending.

use super::{Check, Factory, room::*};
use crate::Inbox;
use futures::FutureExt;
use std::collections::BTreeSet;

pub(super) const CHECKS: &[Check] = &[
    ("messages_come_in_order", |f| Box::pin(messages_come_in_order(f))),
    ("an_inbox_that_waits_is_woken", |f| Box::pin(an_inbox_that_waits_is_woken(f))),
    ("no_more_than_prefetch_are_unsettled", |f| Box::pin(no_more_than_prefetch_are_unsettled(f))),
    ("two_inboxes_share_a_queue", |f| Box::pin(two_inboxes_share_a_queue(f))),
    ("dropping_a_wait_loses_nothing", |f| Box::pin(dropping_a_wait_loses_nothing(f))),
    ("a_queue_that_is_not_there_cannot_be_consumed", |f| Box::pin(a_queue_that_is_not_there_cannot_be_consumed(f))),
    ("the_link_is_odd_until_close", |f| Box::pin(the_link_is_odd_until_close(f))),
    ("an_inbox_ends_when_its_courier_closes", |f| Box::pin(an_inbox_ends_when_its_courier_closes(f))),
];

async fn messages_come_in_order(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    send(&courier, (0..1_000).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    let mut inbox = consume(&courier, &queue, 50).await;
    for n in 0..1_000 {
        take(&mut inbox, &format!("{n}")).await;
    }
}

async fn an_inbox_that_waits_is_woken(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    let mut inbox = consume(&courier, &queue, 1).await;
    let waits = async {
        take(&mut inbox, "first").await;
        take(&mut inbox, "second").await;
    };
    let sends = async {
        send(&courier, vec![to_queue(&queue, "first")]).await;
        send(&courier, vec![to_queue(&queue, "second")]).await;
    };
    futures::join!(waits, sends);
}

async fn no_more_than_prefetch_are_unsettled(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    send(&courier, (0..10).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    let mut small = consume(&courier, &queue, 3).await;
    let mut held = vec![next(&mut small).await, next(&mut small).await, next(&mut small).await];
    // All the others go to another inbox, so none was left for this one.
    let mut large = consume(&courier, &queue, 10).await;
    let mut seen: BTreeSet<String> = held.iter().map(text).collect();
    for _ in 0..7 {
        let delivery = next(&mut large).await;
        assert!(seen.insert(text(&delivery)), "{} came twice", text(&delivery));
        delivery.receipt.ack();
    }
    assert!(small.next().now_or_never().is_none(), "a fourth was delivered");
    drop(large);
    send(&courier, vec![to_queue(&queue, "tenth")]).await;
    assert!(small.next().now_or_never().is_none(), "a fourth was delivered");
    held.pop().expect("three are held").receipt.ack();
    take(&mut small, "tenth").await;
}

async fn two_inboxes_share_a_queue(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let (mut one, mut two) = (consume(&courier, &queue, 5).await, consume(&room.courier().await, &queue, 5).await);
    // The second courier was dropped: its inbox ends, and what it held comes to the first.
    send(&courier, (0..20).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let delivery = next(&mut one).await;
        seen.insert(text(&delivery));
        delivery.receipt.ack();
    }
    assert!(within(two.next()).await.is_none(), "an inbox ends with its courier");
    let other = room.courier().await;
    let mut two = consume(&other, &queue, 5).await;
    send(&courier, (20..60).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    while seen.len() < 60 {
        let (by_two, delivery) = tokio::select! {
            delivery = next(&mut one) => (false, delivery),
            delivery = next(&mut two) => (true, delivery),
        };
        assert!(!delivery.redelivered, "{} by the second: {by_two}", text(&delivery));
        assert!(seen.insert(text(&delivery)), "{} came twice", text(&delivery));
        delivery.receipt.ack();
    }
}

async fn dropping_a_wait_loses_nothing(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    let mut inbox = consume(&courier, &queue, 4).await;
    let sends = send(&courier, (0..100).map(|n| to_queue(&queue, &format!("{n}"))).collect());
    let polls = async {
        let mut expected = 0;
        while expected < 100 {
            // Polled once, then dropped.
            match inbox.next().now_or_never() {
                None => tokio::task::yield_now().await,
                Some(delivery) => {
                    let delivery = delivery.expect("the inbox is open");
                    assert_eq!((text(&delivery), delivery.redelivered), (format!("{expected}"), false));
                    delivery.receipt.ack();
                    expected += 1;
                }
            }
        }
    };
    within(async { futures::join!(sends, polls) }).await;
}

async fn a_queue_that_is_not_there_cannot_be_consumed(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let missing = room.name("missing");
    let error = within(courier.consume(&missing, 1)).await.err().expect("there is none");
    assert!(format!("{error:#}").contains(&missing), "{error:#}");
    send(&courier, vec![to_queue(&queue, "the courier still works")]).await;
    take(&mut consume(&courier, &queue, 1).await, "the courier still works").await;
}

async fn the_link_is_odd_until_close(factory: Factory) {
    let courier = Room::new(factory).courier().await;
    let mut link = courier.link();
    assert_eq!(*link.borrow_and_update(), 1);
    within(courier.close()).await;
    assert_eq!(*link.borrow(), 2);
    assert!(courier.declare(&[]).await.is_err());
    assert!(courier.consume("longshore.dead", 1).await.is_err());
    within(courier.close()).await;
    assert_eq!(*link.borrow(), 2, "closing twice is closing once");
}

async fn an_inbox_ends_when_its_courier_closes(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let mut busy = consume(&courier, &queue, 5).await;
    let mut idle = consume(&courier, &queue, 5).await;
    drop(idle.next().now_or_never());
    send(&courier, vec![to_queue(&queue, "one")]).await;
    // One of them gets it and holds it; both wait while their courier closes.
    let held = std::sync::Mutex::new(vec![]);
    let until_end = async |inbox: &mut Box<dyn Inbox>| {
        while let Some(delivery) = within(inbox.next()).await {
            held.lock().expect("nobody panics with it").push(delivery);
        }
    };
    futures::join!(until_end(&mut busy), until_end(&mut idle), within(courier.close()));
    take(&mut consume(&room.courier().await, &queue, 1).await, "one").await;
}
