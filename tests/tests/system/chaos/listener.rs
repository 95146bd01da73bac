//! Hears what is announced, as a control plane does: every change of an operation's state at least once, and nothing that wasn't
//! so. Its queue outlives the broker's death.

use crate::cloud::Cloud;
use longshore_courier::{Parcel, Queue};
use longshore_engine::database::Database;
use longshore_schema::{
    ids::OperationId,
    tables::{history, operation},
    time::Timestamp,
    wire::{CloudEvent, names},
};
use sea_orm::EntityTrait;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

const QUEUE: &str = "chaos.events";

/// What came, by operation and number in its history.
#[derive(Default)]
struct Heard {
    events: BTreeMap<(OperationId, i64), CloudEvent>,
    wrong: Vec<String>,
}

/// Listens until the test is over.
pub(super) struct Listener(Arc<Mutex<Heard>>);

impl Listener {
    pub(super) async fn listen(amqp: &str) -> Listener {
        let courier = longshore_courier::open(amqp, "chaos listener").await.unwrap();
        let queue = Queue::Durable { name: QUEUE.into(), exchange: names::EVENTS.into(), routing_key: "#".into() };
        courier.declare(&[queue]).await.unwrap();
        let mut inbox = courier.consume(QUEUE, 100).await.unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let keeps = heard.clone();
        tokio::spawn(async move {
            // Without it the inbox would end.
            let _courier = courier;
            while let Some(delivery) = inbox.next().await {
                keeps.lock().unwrap().hear(&delivery.parcel);
                delivery.receipt.ack();
            }
        });
        Listener(heard)
    }

    /// Waits until all has come, and compares it with the database. How many events there were.
    pub(super) async fn check(&self, cloud: &Cloud, database: &Database, rows: &[operation::Model]) -> usize {
        let changes = history::Entity::find().all(database.read()).await.unwrap();
        let changes: BTreeMap<_, _> = changes.into_iter().map(|it| ((OperationId(it.operation_id), it.seq), it)).collect();
        let changed = changes.iter().filter(|(_, it)| it.from_state.as_ref() != Some(&it.to_state));
        let wanted: Vec<_> = changed.map(|(key, _)| *key).collect();
        cloud
            .until("every change of a state is announced", async |_| {
                let heard = self.0.lock().unwrap();
                wanted.iter().all(|key| heard.events.contains_key(key)).then_some(())
            })
            .await;
        let rows: BTreeMap<_, _> = rows.iter().map(|it| (OperationId(it.id), it)).collect();
        let mut heard = self.0.lock().unwrap();
        let mut wrong = std::mem::take(&mut heard.wrong);
        for (key, event) in &heard.events {
            match (changes.get(key), rows.get(&key.0)) {
                (Some(change), Some(row)) => wrong.extend(contradiction(event, change, row)),
                _ => wrong.push(format!("nothing in the database is like {event:?}")),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        heard.events.len()
    }
}

impl Heard {
    fn hear(&mut self, parcel: &Parcel) {
        if parcel.routing_key.ends_with(".progress") {
            return;
        }
        let event: CloudEvent = match serde_json::from_slice(&parcel.body) {
            Ok(event) => event,
            Err(error) => return self.wrong.push(format!("{}: {error}", parcel.routing_key)),
        };
        let data = &event.data;
        if parcel.routing_key != format!("{}.{}", data.kind, data.to) || event.id != format!("{}/{}", data.operation, data.seq) {
            self.wrong.push(format!("{} has {event:?}", parcel.routing_key));
        }
        let key = (data.operation, data.seq);
        match self.events.get(&key) {
            Some(before) if *before != event => self.wrong.push(format!("{before:?}, and then {event:?}")),
            Some(_) => (),
            None => drop(self.events.insert(key, event)),
        }
    }
}

/// What an event says that isn't so, by the row of the history that it is about and the operation's own.
fn contradiction(event: &CloudEvent, change: &history::Model, row: &operation::Model) -> Option<String> {
    let data = &event.data;
    let says = (&data.kind, &data.tenant, &data.from, &data.to, data.at);
    let is = (&row.kind, &row.tenant, &change.from_state, &change.to_state, Timestamp(change.at));
    // A final state's event says why, and that of what is still Ready what was made.
    let fault = (data.to == "failed").then(|| json!(data.fault.as_ref().map(|it| &it.code)));
    let other_fault = fault.is_some_and(|code| row.fault.as_ref().is_none_or(|it| it["code"] != code));
    let other_object = data.to == "ready" && row.state == "ready" && data.object != row.output;
    (says != is || other_fault || other_object).then(|| format!("{event:?} of {row:?} after {change:?}"))
}
