//! The outbox relay: rows become messages, and are deleted when the broker has confirmed them. What this engine
//! wrote goes out at once; what a dead one left is found by its expired claim. Publishing twice is normal.

use crate::database::{self, Database, Failed};
use futures::FutureExt;
use longshore_courier::{Courier, Parcel, Properties, Unsent};
use longshore_schema::{tables::outbox, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many messages are published before their confirms are awaited.
const WINDOW: usize = 256;
/// Seconds for which a row is claimed.
const CLAIM_S: u64 = 30;

/// The way to the relay.
#[derive(Debug, Clone)]
pub struct Relay(mpsc::UnboundedSender<Handed>);

#[derive(Debug)]
struct Handed {
    rows: Vec<outbox::Model>,
    passing: Vec<outbox::Model>,
}

impl Relay {
    /// Starts the relay. It ends at `stop`, after what it was handed.
    pub fn start(database: Database, courier: Arc<dyn Courier>, stop: CancellationToken) -> (Relay, tokio::task::JoinHandle<()>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let publisher = Publisher { database, courier };
        (Relay(sender), tokio::spawn(publisher.run(inbox, stop)))
    }

    /// Hands over what was just committed: rows, claimed for this engine, and messages that were never stored.
    pub fn hand_over(&self, rows: Vec<outbox::Model>, passing: Vec<outbox::Model>) {
        if !rows.is_empty() || !passing.is_empty() {
            // After the end of the relay the rows wait in the database.
            let _ = self.0.send(Handed { rows, passing });
        }
    }
}

struct Publisher {
    database: Database,
    courier: Arc<dyn Courier>,
}

impl Publisher {
    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Handed>, stop: CancellationToken) {
        let mut backstop = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                Some(first) = inbox.recv() => {
                    let mut handed = first;
                    while handed.rows.len() + handed.passing.len() < WINDOW && let Ok(more) = inbox.try_recv() {
                        handed.rows.extend(more.rows);
                        handed.passing.extend(more.passing);
                    }
                    self.publish(handed).await;
                }
                _ = backstop.tick() => self.publish_left_over().await,
                () = stop.cancelled() => break,
                else => break,
            }
        }
        while let Ok(handed) = inbox.try_recv() {
            self.publish(handed).await;
        }
    }

    async fn publish(&self, handed: Handed) {
        let passing = handed.passing.iter().map(|row| parcel(row, None)).collect();
        let now = longshore_now(&self.database).await;
        let parcels = handed.rows.iter().map(|row| parcel(row, now)).collect();
        // One after the other: what passes (a worker's Go) is usually what is waited for.
        let _ = self.courier.publish(passing).await;
        let sent = self.courier.publish(parcels).await;
        let mut confirmed = vec![];
        for (row, sent) in handed.rows.iter().zip(sent) {
            let expired = now.is_some_and(|now| row.expires_at.is_some_and(|it| it < now.0));
            match sent {
                Ok(()) => confirmed.push(row.id),
                Err(Unsent::Unroutable { exchange, routing_key }) if exchange.is_empty() => {
                    tracing::info!(routing_key, "nobody waits for this reply any more");
                    confirmed.push(row.id);
                }
                Err(unsent) if once(row) => {
                    tracing::warn!(%unsent, "a short step may have been sent; its next attempt follows when this one's time is over");
                    confirmed.push(row.id);
                }
                Err(unsent) if expired => {
                    tracing::warn!(%unsent, "a message is worthless by now and was dropped");
                    confirmed.push(row.id);
                }
                Err(unsent) => tracing::warn!(outbox.id = %row.id, %unsent, "a message was not confirmed; it is tried again"),
            }
        }
        self.delete(confirmed).await;
    }

    async fn delete(&self, confirmed: Vec<Uuid>) {
        if confirmed.is_empty() {
            return;
        }
        let done = self.database.transact(|tx| {
            async move {
                outbox::Entity::delete_many().filter(outbox::Column::Id.is_in(confirmed)).exec(tx).await?;
                Ok(())
            }
            .boxed()
        });
        if let Err(failed) = done.await {
            tracing::warn!(%failed, "could not delete confirmed messages; they are sent again");
        }
    }

    /// Rows whose claim has expired: their engine died, or they were not confirmed.
    async fn publish_left_over(&self) {
        let claimed = self.database.transact(|tx| {
            async move {
                let now = database::now(tx).await?;
                let left = outbox::Entity::find()
                    .filter(outbox::Column::ClaimedUntil.lt(now.0))
                    .order_by_asc(outbox::Column::Id)
                    .limit(WINDOW as u64);
                let mut mine = vec![];
                for row in left.all(tx).await? {
                    let claim = outbox::Entity::update_many()
                        .col_expr(outbox::Column::ClaimedUntil, Expr::val(now.plus_s(CLAIM_S).0))
                        .filter(outbox::Column::Id.eq(row.id))
                        .filter(outbox::Column::ClaimedUntil.eq(row.claimed_until));
                    if claim.exec(tx).await?.rows_affected == 1 {
                        mine.push(row);
                    }
                }
                Ok::<_, Failed>(mine)
            }
            .boxed()
        });
        match claimed.await {
            Ok(rows) if rows.is_empty() => (),
            Ok(rows) => {
                let (unsure, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(once);
                self.delete(unsure.iter().map(|it| it.id).collect()).await;
                self.publish(Handed { rows, passing: vec![] }).await;
            }
            Err(failed) => tracing::warn!(%failed, "could not look for messages left over"),
        }
    }
}

/// A short step has no start that the engine could refuse, so the same attempt is never published twice: a copy
/// that runs late could meet its own undo.
fn once(row: &outbox::Model) -> bool {
    row.properties.get("once").and_then(Value::as_bool).unwrap_or(false)
}

async fn longshore_now(database: &Database) -> Option<Timestamp> {
    database::now(database.read()).await.ok()
}

fn parcel(row: &outbox::Model, now: Option<Timestamp>) -> Parcel {
    let text = |name: &str| row.properties.get(name).and_then(Value::as_str).map(str::to_owned);
    let left_ms = |expires: i64, now: Timestamp| u64::try_from((expires - now.0) / 1000).unwrap_or(0);
    let mut headers = std::collections::BTreeMap::new();
    headers.extend(text("content_type").map(|it| ("content-type".to_owned(), it)));
    let properties = Properties {
        message_id: text("message_id"),
        reply_to: None,
        correlation_id: text("correlation_id"),
        user_id: None,
        priority: row.properties.get("priority").and_then(Value::as_u64).and_then(|it| u8::try_from(it).ok()),
        expiration_ms: row.expires_at.zip(now).map(|(expires, now)| left_ms(expires, now)),
        persistent: row.properties.get("persistent").and_then(Value::as_bool).unwrap_or(true),
        headers,
    };
    Parcel {
        exchange: row.exchange.clone(),
        routing_key: row.routing_key.clone(),
        mandatory: row.mandatory,
        properties,
        body: row.body.clone().into(),
    }
}
