//! The outbox relay: rows become messages, and are deleted when the broker has confirmed them. What this engine
//! wrote goes out at once; what a dead one left is found by its expired claim. Publishing twice is normal.

use crate::database::{Database, Failed};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Fuse, FusedFuture},
    stream::FuturesUnordered,
};
use longshore_courier::{Courier, Parcel, Properties, Unsent};
use longshore_schema::{tables::outbox, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many messages are published before their confirms are awaited.
const WINDOW: usize = 256;
/// Seconds for which a row is claimed by the engine that publishes it.
pub(crate) const CLAIM_S: u64 = 30;

/// Windows under way at once.
const WINDOWS: usize = 4;
/// After this long, what was confirmed is deleted in a transaction of its own: the journal wrote nothing meanwhile.
const IDLE: Duration = Duration::from_millis(200);

/// The way to the relay.
#[derive(Debug, Clone)]
pub struct Relay {
    handed: mpsc::UnboundedSender<Handed>,
    confirmed: Confirmed,
}

/// Ids of rows that the broker has confirmed, to be deleted.
type Confirmed = Arc<Mutex<Vec<Uuid>>>;

/// What a transaction left to send.
#[derive(Debug)]
pub struct Handed {
    rows: Vec<outbox::Model>,
    passing: Vec<outbox::Model>,
    /// The database's time, and ours at that moment.
    now: (Timestamp, Instant),
}

impl Handed {
    /// Rows, claimed for this engine, and messages that were never stored, at the transaction's time.
    pub fn new(rows: Vec<outbox::Model>, passing: Vec<outbox::Model>, now: Timestamp) -> Handed {
        Handed { rows, passing, now: (now, Instant::now()) }
    }

    fn now(&self) -> Timestamp {
        let (then, at) = self.now;
        Timestamp(then.0.saturating_add(i64::try_from(at.elapsed().as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Relay {
    /// Starts the relay. It ends at `stop`, after what it was handed.
    pub fn start(database: Database, courier: Arc<dyn Courier>, stop: CancellationToken) -> (Relay, tokio::task::JoinHandle<()>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let confirmed = Confirmed::default();
        let publisher = Publisher { database, courier, confirmed: confirmed.clone() };
        (Relay { handed: sender, confirmed }, tokio::spawn(publisher.run(inbox, stop)))
    }

    /// Hands over what was just committed.
    pub fn hand_over(&self, handed: Handed) {
        if !handed.rows.is_empty() || !handed.passing.is_empty() {
            // After the end of the relay the rows wait in the database.
            let _ = self.handed.send(handed);
        }
    }

    /// Rows to delete in the next transaction.
    pub fn take_confirmed(&self) -> Vec<Uuid> {
        let mut confirmed = lock(&self.confirmed);
        let from = confirmed.len().saturating_sub(4 * WINDOW);
        confirmed.split_off(from)
    }

    /// That transaction didn't come to its end.
    pub fn give_back_confirmed(&self, ids: Vec<Uuid>) {
        lock(&self.confirmed).extend(ids);
    }
}

fn lock(confirmed: &Confirmed) -> std::sync::MutexGuard<'_, Vec<Uuid>> {
    confirmed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A fused future that has ended never ends again.
async fn unless_over(mut future: Fuse<BoxFuture<'_, ()>>) {
    if !future.is_terminated() {
        (&mut future).await;
    }
}

struct Publisher {
    database: Database,
    courier: Arc<dyn Courier>,
    confirmed: Confirmed,
}

impl Publisher {
    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Handed>, stop: CancellationToken) {
        let mut backstop = tokio::time::interval(Duration::from_secs(5));
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut waiting = 0;
        let mut windows = FuturesUnordered::new();
        let mut looking = Fuse::<BoxFuture<'_, ()>>::terminated();
        let mut deleting = Fuse::<BoxFuture<'_, ()>>::terminated();
        loop {
            tokio::select! {
                Some(handed) = inbox.recv(), if windows.len() < WINDOWS => windows.push(self.publish(gather(handed, &mut inbox))),
                Some(()) = windows.next() => (),
                // Beside the windows: nobody's lease waits for a broker that is slow to confirm what was left over.
                _ = backstop.tick(), if looking.is_terminated() => looking = self.publish_left_over().boxed().fuse(),
                () = &mut looking => (),
                _ = idle.tick(), if deleting.is_terminated() => {
                    let left = lock(&self.confirmed).len();
                    if left > 0 && left == waiting {
                        deleting = self.delete_confirmed().boxed().fuse();
                    }
                    waiting = left;
                }
                () = &mut deleting => (),
                () = stop.cancelled() => break,
                else => break,
            }
        }
        while let Ok(handed) = inbox.try_recv() {
            windows.push(self.publish(handed));
        }
        while windows.next().await.is_some() {}
        tokio::join!(unless_over(looking), unless_over(deleting));
        self.delete_confirmed().await;
    }

    async fn publish(&self, handed: Handed) {
        let now = handed.now();
        let passing = handed.passing.iter().map(|row| parcel(row, now)).collect();
        let parcels = handed.rows.iter().map(|row| parcel(row, now)).collect();
        let (passed, sent) = tokio::join!(self.courier.publish(passing), self.courier.publish(parcels));
        handed.passing.iter().zip(&passed).for_each(|(row, sent)| tell_unsent_step(row, sent));
        let settled = handed.rows.iter().zip(&sent).filter(|(row, sent)| is_settled(row, sent, now));
        lock(&self.confirmed).extend(settled.map(|(row, _)| row.id));
    }

    /// Deletes what the journal didn't delete beside its own writing.
    async fn delete_confirmed(&self) {
        let ids = std::mem::take(&mut *lock(&self.confirmed));
        delete(&self.database, ids).await;
    }

    /// Rows whose claim has expired: their engine died, or they were not confirmed.
    async fn publish_left_over(&self) {
        match left_over(&self.database).await {
            Ok((rows, _)) if rows.is_empty() => (),
            Ok((rows, now)) => self.publish(Handed::new(rows, vec![], now)).await,
            Err(failed) => tracing::warn!(%failed, "could not look for messages left over"),
        }
    }
}

/// Whether a row's work is done, by what the broker said: it is deleted then, else tried again.
pub fn is_settled(row: &outbox::Model, sent: &Result<(), Unsent>, now: Timestamp) -> bool {
    let expired = row.expires_at.is_some_and(|it| it < now.0);
    match sent {
        Ok(()) => true,
        Err(Unsent::Unroutable { exchange, routing_key }) if exchange.is_empty() => {
            tracing::info!(routing_key, "nobody waits for this reply any more");
            true
        }
        Err(unsent) if expired => {
            tracing::warn!(%unsent, "a message is worthless by now and was dropped");
            true
        }
        Err(unsent) => {
            tracing::warn!(outbox.id = %row.id, %unsent, "a message was not confirmed; it is tried again");
            false
        }
    }
}

/// Deletes rows whose work is done. If that fails they are sent again.
pub async fn delete(database: &Database, settled: Vec<Uuid>) {
    for chunk in settled.chunks(WINDOW) {
        let chunk = chunk.to_vec();
        let done = database.transact(|tx| {
            async move {
                outbox::Entity::delete_many().filter(outbox::Column::Id.is_in(chunk)).exec(tx).await?;
                Ok(())
            }
            .boxed()
        });
        if let Err(failed) = done.await {
            tracing::warn!(%failed, "could not delete confirmed messages; they are sent again");
        }
    }
}

/// Claims rows whose claim has expired, and returns them to publish.
pub async fn left_over(database: &Database) -> Result<(Vec<outbox::Model>, Timestamp), Failed> {
    let clock = database.clock();
    let claimed = database.transact(move |tx| {
        async move {
            let now = clock.now(tx).await?;
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
            Ok::<_, Failed>((mine, now))
        }
        .boxed()
    });
    claimed.await
}

/// A step is sent once: whether it arrived is not asked again, the clock sends its next attempt when this one's time is over.
fn tell_unsent_step(row: &outbox::Model, sent: &Result<(), Unsent>) {
    if let Err(unsent) = sent
        && row.mandatory
    {
        tracing::warn!(%unsent, "a step may not have been sent; its next attempt follows when this one's time is over");
    }
}

/// What was handed over meanwhile goes in the same window.
fn gather(mut handed: Handed, inbox: &mut mpsc::UnboundedReceiver<Handed>) -> Handed {
    while handed.rows.len() + handed.passing.len() < WINDOW
        && let Ok(more) = inbox.try_recv()
    {
        handed.rows.extend(more.rows);
        handed.passing.extend(more.passing);
        handed.now = more.now;
    }
    handed
}

fn parcel(row: &outbox::Model, now: Timestamp) -> Parcel {
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
        expiration_ms: row.expires_at.map(|expires| left_ms(expires, now)),
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
