//! What becomes of what is published.

use super::{Check, Factory, room::*};
use crate::{Parcel, Unsent};
use longshore_schema::wire::names;
use std::collections::BTreeMap;

pub(super) const CHECKS: &[Check] = &[
    ("a_message_arrives_as_it_was_sent", |f| Box::pin(a_message_arrives_as_it_was_sent(f))),
    ("answers_come_in_the_order_of_the_parcels", |f| Box::pin(answers_come_in_the_order_of_the_parcels(f))),
    ("what_no_queue_takes_is_an_error_only_if_mandatory", |f| Box::pin(what_no_queue_takes_is_an_error_only_if_mandatory(f))),
    ("one_bad_parcel_does_not_sink_its_batch", |f| Box::pin(one_bad_parcel_does_not_sink_its_batch(f))),
    ("many_tasks_publish_at_once", |f| Box::pin(many_tasks_publish_at_once(f))),
    ("a_large_body_arrives_whole", |f| Box::pin(a_large_body_arrives_whole(f))),
    ("an_expired_message_is_not_delivered_but_kept", |f| Box::pin(an_expired_message_is_not_delivered_but_kept(f))),
    ("nothing_is_published_after_close", |f| Box::pin(nothing_is_published_after_close(f))),
];

async fn a_message_arrives_as_it_was_sent(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    let mut sent = to_queue(&queue, r#"{"text": "ü"}"#);
    sent.properties.message_id = Some("id-1".into());
    sent.properties.reply_to = Some("somewhere".into());
    sent.properties.correlation_id = Some("correlated ✓".into());
    sent.properties.priority = Some(7);
    sent.properties.expiration_ms = Some(3_600_000);
    sent.properties.headers = BTreeMap::from([("tenant".into(), "t1".into()), (names::FAULT_HEADER.into(), String::new())]);
    send(&courier, vec![sent.clone()]).await;
    let delivery = next(&mut consume(&courier, &queue, 1).await).await;
    assert!(!delivery.redelivered);
    assert_eq!(delivery.parcel, Parcel { mandatory: false, ..sent });
    delivery.receipt.ack();
}

async fn answers_come_in_the_order_of_the_parcels(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let nowhere = room.name("nowhere");
    let to = |n: usize| if n.is_multiple_of(3) { &nowhere } else { &queue };
    let parcels: Vec<Parcel> =
        (0..2_000_usize).map(|n| Parcel { mandatory: !n.is_multiple_of(5), ..to_queue(to(n), &format!("{n}")) }).collect();
    for (n, result) in publish(&courier, parcels).await.into_iter().enumerate() {
        let lost = n.is_multiple_of(3) && !n.is_multiple_of(5);
        let unroutable = Unsent::Unroutable { exchange: String::new(), routing_key: nowhere.clone() };
        assert_eq!(result, if lost { Err(unroutable) } else { Ok(()) }, "message {n}");
    }
    let mut inbox = consume(&courier, &queue, 500).await;
    let mut seen: Vec<usize> = vec![];
    while seen.len() < 2_000 - 667 {
        let delivery = next(&mut inbox).await;
        seen.push(text(&delivery).parse().expect("a number"));
        delivery.receipt.ack();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..2_000_usize).filter(|n| !n.is_multiple_of(3)).collect::<Vec<_>>());
}

async fn what_no_queue_takes_is_an_error_only_if_mandatory(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    courier.declare(&[]).await.expect("the exchanges are declared");
    for exchange in ["", names::COMMANDS, names::CONTROL, names::EVENTS, names::REPORTS, names::STEPS] {
        let key = room.name("nowhere");
        send(&courier, vec![parcel(exchange, &key, "optional")]).await;
        let result = publish(&courier, vec![Parcel { mandatory: true, ..parcel(exchange, &key, "mandatory") }]).await;
        // An engine on the same broker takes every command and report.
        let taken = [names::COMMANDS, names::REPORTS].contains(&exchange) && result == [Ok(())];
        let wanted = vec![Err(Unsent::Unroutable { exchange: exchange.into(), routing_key: key })];
        assert!(taken || result == wanted, "{exchange:?}: {result:?}");
    }
}

async fn one_bad_parcel_does_not_sink_its_batch(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let mut long = to_queue(&queue, "too long an id");
    long.properties.correlation_id = Some("x".repeat(256));
    let no_exchange = Parcel { mandatory: true, ..parcel(&room.name("no-exchange"), "key", "no exchange") };
    let batch = vec![to_queue(&queue, "first"), no_exchange, to_queue(&queue, "second"), long, to_queue(&queue, "third")];
    let results = publish(&courier, batch).await;
    for (n, result) in results.iter().enumerate() {
        match n {
            1 | 3 => assert!(matches!(result, Err(Unsent::Unconfirmed(_))), "{n}: {result:?}"),
            _ => assert_eq!(*result, Ok(()), "{n}"),
        }
    }
    // A parcel that had to be sent again may arrive twice.
    let mut inbox = consume(&courier, &queue, 10).await;
    let mut missing = vec!["first", "second", "third"];
    while !missing.is_empty() {
        let delivery = next(&mut inbox).await;
        let body = text(&delivery);
        assert!(body != "too long an id", "what was refused isn't delivered");
        missing.retain(|wanted| *wanted != body);
        delivery.receipt.ack();
    }
}

async fn many_tasks_publish_at_once(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let nowhere = room.name("nowhere");
    let tasks = (0..200).map(|n| {
        let (courier, to) = (courier.clone(), if n % 2 == 0 { queue.clone() } else { nowhere.clone() });
        tokio::spawn(async move { (n, publish(&courier, vec![to_queue(&to, &format!("{n}"))]).await) })
    });
    for task in tasks.collect::<Vec<_>>() {
        let (n, result) = within(task).await.expect("the task ends");
        assert_eq!(result[0].is_ok(), n % 2 == 0, "message {n}: {result:?}");
    }
}

async fn a_large_body_arrives_whole(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    let body: String = ('a'..='z').cycle().take(names::BODY_LIMIT).collect();
    send(&courier, vec![to_queue(&queue, &body), to_queue(&queue, "")]).await;
    let mut inbox = consume(&courier, &queue, 2).await;
    let delivery = next(&mut inbox).await;
    assert!(text(&delivery) == body, "all of it, and nothing else");
    delivery.receipt.ack();
    take(&mut inbox, "").await;
}

async fn an_expired_message_is_not_delivered_but_kept(factory: Factory) {
    let (courier, queue) = Room::new(factory).queue().await;
    let body = format!("expired in {queue}");
    let mut expired = to_queue(&queue, &body);
    expired.properties.expiration_ms = Some(0);
    expired.properties.message_id = Some("kept".into());
    send(&courier, vec![expired, to_queue(&queue, "still good")]).await;
    take(&mut consume(&courier, &queue, 1).await, "still good").await;
    let found = dead(&courier, &body).await;
    assert_eq!(found.properties.message_id.as_deref(), Some("kept"));
    assert_eq!(found.properties.headers.get("x-first-death-reason").map(String::as_str), Some("expired"));
    assert_eq!(found.properties.headers.get("x-first-death-queue"), Some(&queue));
}

async fn nothing_is_published_after_close(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    within(courier.close()).await;
    let results = publish(&courier, vec![to_queue(&queue, "late"), to_queue(&queue, "later")]).await;
    assert!(matches!(results.as_slice(), [Err(Unsent::Unconfirmed(_)), Err(Unsent::Unconfirmed(_))]), "{results:?}");
    let other = room.courier().await;
    send(&other, vec![to_queue(&queue, "marker")]).await;
    take(&mut consume(&other, &queue, 1).await, "marker").await;
}
