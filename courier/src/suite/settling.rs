//! Receipts: what is settled stays settled, what isn't comes again.

use super::{Check, Factory, room::*};
use crate::Queue;
use longshore_schema::wire::names;
use std::collections::BTreeSet;

pub(super) const CHECKS: &[Check] = &[
    ("what_is_acknowledged_never_comes_again", |f| Box::pin(what_is_acknowledged_never_comes_again(f))),
    ("what_is_given_back_comes_again", |f| Box::pin(what_is_given_back_comes_again(f))),
    ("a_dropped_inbox_gives_back_what_it_held", |f| Box::pin(a_dropped_inbox_gives_back_what_it_held(f))),
    ("a_closed_courier_gives_back_what_it_held", |f| Box::pin(a_closed_courier_gives_back_what_it_held(f))),
    ("closing_settles_what_was_acknowledged_before", |f| Box::pin(closing_settles_what_was_acknowledged_before(f))),
    ("acknowledging_in_any_order_settles_just_those", |f| Box::pin(acknowledging_in_any_order_settles_just_those(f))),
    ("a_message_that_always_comes_back_ends_in_dead", |f| Box::pin(a_message_that_always_comes_back_ends_in_dead(f))),
    ("a_step_that_expired_is_forgotten_and_one_that_always_comes_back_is_not", |f| {
        Box::pin(a_step_that_expired_is_forgotten_and_one_that_always_comes_back_is_not(f))
    }),
    ("longshore_dead_forgets_the_oldest", |f| Box::pin(longshore_dead_forgets_the_oldest(f))),
    ("an_own_queue_redelivers_too", |f| Box::pin(an_own_queue_redelivers_too(f))),
];

async fn what_is_acknowledged_never_comes_again(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    send(&courier, vec![to_queue(&queue, "done")]).await;
    take(&mut consume(&courier, &queue, 1).await, "done").await;
    within(courier.close()).await;
    let other = room.courier().await;
    send(&other, vec![to_queue(&queue, "marker")]).await;
    take(&mut consume(&other, &queue, 1).await, "marker").await;
}

async fn what_is_given_back_comes_again(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    send(&courier, vec![to_queue(&queue, "again")]).await;
    let mut inbox = consume(&courier, &queue, 1).await;
    let first = next(&mut inbox).await;
    assert!(!first.redelivered);
    first.receipt.requeue();
    let second = next(&mut inbox).await;
    assert!(second.redelivered);
    drop(second);
    let third = next(&mut inbox).await;
    assert_eq!((third.redelivered, text(&third)), (true, "again".into()));
    third.receipt.ack();
    send(&courier, vec![to_queue(&queue, "marker")]).await;
    let marker = next(&mut inbox).await;
    assert_eq!((marker.redelivered, text(&marker)), (false, "marker".into()));
    marker.receipt.ack();
}

async fn a_dropped_inbox_gives_back_what_it_held(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    send(&courier, (0..5).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    let mut inbox = consume(&courier, &queue, 3).await;
    take(&mut inbox, "0").await;
    let held = [next(&mut inbox).await, next(&mut inbox).await];
    drop(inbox);
    let mut inbox = consume(&courier, &queue, 5).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let delivery = next(&mut inbox).await;
        assert!(seen.insert(text(&delivery)));
        assert!(delivery.redelivered || !["1", "2"].contains(&text(&delivery).as_str()), "{} was held", text(&delivery));
        delivery.receipt.ack();
    }
    assert_eq!(seen, ["1", "2", "3", "4"].map(String::from).into());
    held.into_iter().for_each(|delivery| delivery.receipt.requeue());
    send(&courier, vec![to_queue(&queue, "marker")]).await;
    take(&mut inbox, "marker").await;
}

async fn a_closed_courier_gives_back_what_it_held(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    send(&courier, vec![to_queue(&queue, "held")]).await;
    let mut inbox = consume(&courier, &queue, 1).await;
    let held = next(&mut inbox).await;
    within(courier.close()).await;
    // Too late: the broker has it again.
    held.receipt.ack();
    assert!(within(inbox.next()).await.is_none());
    let again = next(&mut consume(&room.courier().await, &queue, 1).await).await;
    assert_eq!((again.redelivered, text(&again)), (true, "held".into()));
    again.receipt.ack();
}

async fn closing_settles_what_was_acknowledged_before(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    send(&courier, (0..200).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    let mut inbox = consume(&courier, &queue, 200).await;
    let mut held = vec![];
    for _ in 0..200 {
        held.push(next(&mut inbox).await);
    }
    held.into_iter().for_each(|delivery| delivery.receipt.ack());
    within(courier.close()).await;
    let other = room.courier().await;
    send(&other, vec![to_queue(&queue, "marker")]).await;
    take(&mut consume(&other, &queue, 1).await, "marker").await;
}

async fn acknowledging_in_any_order_settles_just_those(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    const ALL: usize = 300;
    send(&courier, (0..ALL).map(|n| to_queue(&queue, &format!("{n}"))).collect()).await;
    let mut inbox = consume(&courier, &queue, ALL as u16).await;
    let mut held = vec![];
    for _ in 0..ALL {
        held.push(Some(next(&mut inbox).await));
    }
    // 7 and 300 have no common divisor, so this visits each once, out of order; every fifth is kept.
    let kept = |n: usize| n.is_multiple_of(5);
    for n in (0..ALL).map(|n| n * 7 % ALL).filter(|n| !kept(*n)) {
        held[n].take().expect("each once").receipt.ack();
        if n.is_multiple_of(11) {
            tokio::task::yield_now().await;
        }
    }
    // As many as were settled fit in besides those held; that they all come shows that all were settled.
    let settled = ALL - ALL / 5;
    send(&courier, (0..settled).map(|_| to_queue(&queue, "filler")).collect()).await;
    for _ in 0..settled {
        take(&mut inbox, "filler").await;
    }
    drop(inbox);
    send(&courier, vec![to_queue(&queue, "marker")]).await;
    let mut inbox = consume(&courier, &queue, ALL as u16).await;
    let mut seen = BTreeSet::new();
    loop {
        let delivery = next(&mut inbox).await;
        let body = text(&delivery);
        let redelivered = delivery.redelivered;
        delivery.receipt.ack();
        if body == "filler" {
            assert!(redelivered, "each filler was delivered before");
            continue;
        }
        match body.parse::<usize>() {
            Err(_) if seen.len() == ALL / 5 => break,
            Err(_) => send(&courier, vec![to_queue(&queue, "marker")]).await,
            Ok(n) => assert!(redelivered && kept(n) && seen.insert(n), "{n} came again"),
        }
    }
}

async fn a_message_that_always_comes_back_ends_in_dead(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    let body = format!("poison in {queue}");
    send(&courier, vec![to_queue(&queue, &body), to_queue(&queue, "marker")]).await;
    let mut inbox = consume(&courier, &queue, 1).await;
    let mut deliveries = 0;
    let mut markers = 0;
    while deliveries <= names::DELIVERY_LIMIT {
        let delivery = next(&mut inbox).await;
        if text(&delivery) == body {
            deliveries += 1;
            delivery.receipt.requeue();
        } else {
            markers += 1;
            delivery.receipt.ack();
        }
    }
    if markers == 0 {
        take(&mut inbox, "marker").await;
    }
    let found = dead(&courier, &body).await;
    assert_eq!(found.properties.headers.get("x-first-death-reason").map(String::as_str), Some("delivery_limit"));
    assert_eq!((found.exchange.as_str(), found.routing_key.as_str()), ("", names::DEAD));
    send(&courier, vec![to_queue(&queue, "the queue still works")]).await;
    take(&mut inbox, "the queue still works").await;
}

async fn a_step_that_expired_is_forgotten_and_one_that_always_comes_back_is_not(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    let (name, key) = (room.name("steps"), format!("host.{}", room.id));
    let queue = Queue::Durable { name: name.clone(), exchange: names::STEPS.into(), routing_key: key.clone() };
    courier.declare(&[queue]).await.expect("declared");
    let (old, poison) = (format!("old in {name}"), format!("poison in {name}"));
    let mut expires = parcel(names::STEPS, &key, &old);
    expires.properties.expiration_ms = Some(0);
    send(&courier, vec![expires, parcel(names::STEPS, &key, &poison)]).await;
    let mut inbox = consume(&courier, &name, 1).await;
    let mut deliveries = 0;
    while deliveries <= names::DELIVERY_LIMIT {
        let delivery = next(&mut inbox).await;
        assert_eq!(text(&delivery), poison);
        deliveries += 1;
        delivery.receipt.requeue();
    }
    // The old one is older, so it would have come to `longshore.dead` before.
    let mut inbox = consume(&courier, names::DEAD, 10).await;
    loop {
        let delivery = next(&mut inbox).await;
        let body = text(&delivery);
        delivery.receipt.ack();
        assert_ne!(body, old);
        if body == poison {
            break;
        }
    }
}

async fn longshore_dead_forgets_the_oldest(factory: Factory) {
    let (courier, _) = Room::new(factory).queue().await;
    let limit = names::DEAD_LIMIT as usize;
    send(&courier, (0..limit + 5).map(|n| to_queue(names::DEAD, &format!("{n}"))).collect()).await;
    let mut inbox = consume(&courier, names::DEAD, 200).await;
    for n in 5..limit + 5 {
        take(&mut inbox, &format!("{n}")).await;
    }
}

async fn an_own_queue_redelivers_too(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    let name = room.name("own");
    courier.declare(&[own(&name, names::CONTROL, &[&name])]).await.expect("declared");
    send(&courier, vec![parcel(names::CONTROL, &name, "stop")]).await;
    let mut inbox = consume(&courier, &name, 1).await;
    next(&mut inbox).await.receipt.requeue();
    let again = next(&mut inbox).await;
    assert_eq!((again.redelivered, text(&again)), (true, "stop".into()));
    again.receipt.ack();
}
