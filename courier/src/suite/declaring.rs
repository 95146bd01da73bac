//! Queues, bindings and who may use them.

use super::{Check, Factory, room::*};
use crate::{Parcel, Queue, Unsent};
use longshore_schema::wire::names;

pub(super) const CHECKS: &[Check] = &[
    ("declaring_again_changes_nothing", |f| Box::pin(declaring_again_changes_nothing(f))),
    ("topics_are_matched_by_words", |f| Box::pin(topics_are_matched_by_words(f))),
    ("a_direct_exchange_compares_whole_keys", |f| Box::pin(a_direct_exchange_compares_whole_keys(f))),
    ("every_bound_queue_gets_one_copy", |f| Box::pin(every_bound_queue_gets_one_copy(f))),
    ("a_conflict_names_the_queue_and_the_difference", |f| Box::pin(a_conflict_names_the_queue_and_the_difference(f))),
    ("an_own_queue_is_closed_to_others", |f| Box::pin(an_own_queue_is_closed_to_others(f))),
    ("an_own_queue_ends_with_its_courier", |f| Box::pin(an_own_queue_ends_with_its_courier(f))),
    ("a_durable_queue_outlives_its_courier", |f| Box::pin(a_durable_queue_outlives_its_courier(f))),
    ("binding_to_an_unknown_exchange_is_an_error", |f| Box::pin(binding_to_an_unknown_exchange_is_an_error(f))),
];

async fn declaring_again_changes_nothing(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    send(&courier, vec![to_queue(&queue, "kept")]).await;
    let mine = own(&room.name("own"), names::CONTROL, &[&room.id]);
    for _ in 0..2 {
        courier.declare(&[durable(&queue), mine.clone()]).await.expect("declared again");
        room.courier().await.declare(&[durable(&queue)]).await.expect("declared by another");
    }
    take(&mut consume(&courier, &queue, 1).await, "kept").await;
}

async fn topics_are_matched_by_words(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    let id = &room.id;
    let rows: [(&str, String, &[&str]); 4] = [
        ("one", format!("{id}.*"), &["a", "b"]),
        ("all", format!("{id}.#"), &["", "a", "a.b", "b"]),
        ("end", format!("{id}.#.b"), &["a.b", "b"]),
        ("exact", format!("{id}.a"), &["a"]),
    ];
    for (name, key, _) in &rows {
        courier.declare(&[own(&room.name(name), names::EVENTS, &[key])]).await.expect("declared");
    }
    for suffix in ["", "a", "a.b", "b"] {
        let key = if suffix.is_empty() { id.clone() } else { format!("{id}.{suffix}") };
        send(&courier, vec![Parcel { mandatory: true, ..parcel(names::EVENTS, &key, suffix) }]).await;
    }
    for (name, _, bodies) in rows {
        send(&courier, vec![to_queue(&room.name(name), "marker")]).await;
        let mut inbox = consume(&courier, &room.name(name), 10).await;
        for body in bodies {
            take(&mut inbox, body).await;
        }
        take(&mut inbox, "marker").await;
    }
}

async fn a_direct_exchange_compares_whole_keys(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    let (one, two, everyone) = (room.name("one"), room.name("two"), room.name("everyone"));
    courier
        .declare(&[own(&one, names::CONTROL, &[&one, &everyone]), own(&two, names::CONTROL, &[&two, &everyone])])
        .await
        .expect("declared");
    let control = |key: &str, body: &str| Parcel { mandatory: true, ..parcel(names::CONTROL, key, body) };
    send(&courier, vec![control(&one, "for one"), control(&everyone, "for all"), control(&two, "for two")]).await;
    let wildcard = publish(&courier, vec![control(&room.name("*"), "for nobody")]).await;
    assert!(matches!(wildcard[0], Err(Unsent::Unroutable { .. })), "{wildcard:?}");
    for (queue, bodies) in [(&one, ["for one", "for all"]), (&two, ["for all", "for two"])] {
        let mut inbox = consume(&courier, queue, 5).await;
        for body in bodies {
            take(&mut inbox, body).await;
        }
    }
}

async fn every_bound_queue_gets_one_copy(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    let (twice, once) = (room.name("twice"), room.name("once"));
    let key = format!("zone.{}.kvm", room.id);
    let durable = Queue::Durable { name: once.clone(), exchange: names::STEPS.into(), routing_key: key.clone() };
    courier.declare(&[own(&twice, names::STEPS, &[&key, &format!("zone.{}.*", room.id)]), durable]).await.expect("declared");
    send(&courier, vec![Parcel { mandatory: true, ..parcel(names::STEPS, &key, "step") }]).await;
    send(&courier, vec![to_queue(&twice, "marker"), to_queue(&once, "marker")]).await;
    for queue in [twice, once] {
        let mut inbox = consume(&courier, &queue, 5).await;
        take(&mut inbox, "step").await;
        take(&mut inbox, "marker").await;
    }
}

async fn a_conflict_names_the_queue_and_the_difference(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    let error = courier.declare(&[own(&queue, "", &[])]).await.expect_err("it is durable");
    let said = format!("{error:#}");
    assert!(said.contains(&queue) && said.contains("exists with other properties"), "{said}");
    assert!(said.contains("exclusive"), "{said}");
    courier.declare(&[durable(&room.name("another"))]).await.expect("the courier still works");
    send(&courier, vec![to_queue(&queue, "and so does the queue")]).await;
}

async fn an_own_queue_is_closed_to_others(factory: Factory) {
    let room = Room::new(factory);
    let (owner, other) = (room.courier().await, room.courier().await);
    let mine = own(&room.name("own"), "", &[]);
    owner.declare(std::slice::from_ref(&mine)).await.expect("declared");
    let declared = other.declare(std::slice::from_ref(&mine)).await.expect_err("it is another's");
    assert!(format!("{declared:#}").contains(mine.name()), "{declared:#}");
    let consumed = other.consume(mine.name(), 1).await.err().expect("it is another's");
    assert!(format!("{consumed:#}").contains(mine.name()), "{consumed:#}");
    send(&other, vec![to_queue(mine.name(), "but it may be sent to")]).await;
    take(&mut consume(&owner, mine.name(), 1).await, "but it may be sent to").await;
}

async fn an_own_queue_ends_with_its_courier(factory: Factory) {
    let room = Room::new(factory);
    let (owner, other) = (room.courier().await, room.courier().await);
    let name = room.name("own");
    owner.declare(&[own(&name, "", &[])]).await.expect("declared");
    send(&other, vec![to_queue(&name, "unread")]).await;
    within(owner.close()).await;
    until_answered(&other, to_queue(&name, "nobody"), |result| matches!(result, Err(Unsent::Unroutable { .. }))).await;
    other.declare(&[own(&name, "", &[])]).await.expect("the name is free again");
    send(&other, vec![to_queue(&name, "new")]).await;
    take(&mut consume(&other, &name, 1).await, "new").await;
}

async fn a_durable_queue_outlives_its_courier(factory: Factory) {
    let room = Room::new(factory);
    let (courier, queue) = room.queue().await;
    send(&courier, vec![to_queue(&queue, "kept")]).await;
    within(courier.close()).await;
    take(&mut consume(&room.courier().await, &queue, 1).await, "kept").await;
}

async fn binding_to_an_unknown_exchange_is_an_error(factory: Factory) {
    let room = Room::new(factory);
    let courier = room.courier().await;
    let exchange = room.name("no-exchange");
    let error = courier.declare(&[own(&room.name("own"), &exchange, &["#"])]).await.expect_err("there is none");
    assert!(format!("{error:#}").contains(&exchange), "{error:#}");
}
