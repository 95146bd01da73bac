//! The clock: finds what is due by the database's time and hands it to the journal. It is the backstop of
//! everything: with every message lost, it still brings every operation to its end. Any number of engines may
//! run one; what two of them find, one of them does.

pub mod due;

use crate::{
    command::Command,
    config::Config,
    database::Database,
    journal::{Item, Journal, rows},
    machine::{Event, StepState},
    mutant::{self, Mutant},
    operation::{Operation as _, sweep_store::SweepStore},
    packs,
    plan::{Plan, Work},
};
use futures::future::join_all;
use longshore_schema::{
    ids::OperationId,
    step::{Attempt, Pace, Way},
    tables::{operation, outbox, place, queue, step},
    time::Timestamp,
    wire::names,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How many due things of a kind are handled in one tick.
const LIMIT: u64 = 256;

/// Ticks until `stop`.
pub async fn run(database: Database, journal: Journal, config: Config, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_millis(config.tick_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u64;
    loop {
        tokio::select! {
            _ = ticks.tick() => (),
            () = stop.cancelled() => return,
        }
        count += 1;
        if let Err(error) = tick(&database, &journal, config, count).await {
            tracing::warn!(error = format!("{error:#}"), "the clock could not look for what is due");
        }
    }
}

/// One look at everything that may be due.
async fn tick(database: &Database, journal: &Journal, config: Config, count: u64) -> anyhow::Result<()> {
    let sweeping = count.is_multiple_of(10) || config.sweep_every_s <= 1;
    let items = due(database, config, sweeping).await?;
    let absorbed = join_all(items.into_iter().map(|item| journal.absorb(item))).await;
    for failed in absorbed.into_iter().filter_map(Result::err) {
        tracing::warn!(error = format!("{failed:#}"), "something due could not be absorbed");
    }
    Ok(())
}

/// Everything that may be due; `sweeping`: sweeps of stores too.
pub async fn due(database: &Database, config: Config, sweeping: bool) -> anyhow::Result<Vec<Item>> {
    if mutant::is(Mutant::NoClock) {
        return Ok(vec![]);
    }
    let now = database.clock().now(database.read()).await?;
    let mut items = due_steps(database, now).await?;
    if !mutant::is(Mutant::IgnoreDeadlines) {
        items.extend(deadlines(database, now).await?);
    }
    items.extend(destroys(database).await?);
    items.extend(waiting_places(database).await?);
    items.extend(queues(database).await?);
    if sweeping && !mutant::is(Mutant::NoSweeps) {
        items.extend(sweeps(database, now, config).await?);
    }
    Ok(items)
}

/// Retries whose pause is over, and attempts whose start, bound or lease is.
async fn due_steps(database: &Database, now: Timestamp) -> anyhow::Result<Vec<Item>> {
    let rows = due::steps(now).all(database.read()).await?;
    let ids: BTreeSet<_> = rows.iter().map(|it| it.operation_id).collect();
    let operations = operation::Entity::find().filter(operation::Column::Id.is_in(ids)).all(database.read()).await?;
    let mut items = vec![];
    for row in rows {
        let Some(owner) = operations.iter().find(|it| it.id == row.operation_id) else { continue };
        match due_event(owner, &row) {
            Ok(Some(event)) => items.push(Item::Due { operation: OperationId(row.operation_id), event }),
            Ok(None) => (),
            Err(error) => {
                tracing::error!(operation.id = %row.operation_id, error = format!("{error:#}"), "a due step can't be read")
            }
        }
    }
    Ok(items)
}

fn due_event(owner: &operation::Model, row: &step::Model) -> anyhow::Result<Option<Event>> {
    let operation = rows::operation_of(owner, std::slice::from_ref(row))?;
    let seq = u16::try_from(row.seq)?;
    let track = &operation.steps[usize::from(seq)];
    let attempt = |n, way| Attempt { operation: operation.id, seq, n, way };
    Ok(match track.state {
        StepState::Resting { way } => Some(Event::TimerFired { attempt: attempt(track.n + 1, way) }),
        StepState::Running { way, .. } => Some(Event::LeaseLost { attempt: attempt(track.n, way) }),
        StepState::Sent { way } => match pace(&operation.plan, usize::from(seq), way) {
            // Its start would have been refused: nobody runs it.
            Some(Pace::Long { .. }) => Some(Event::Unstarted { attempt: attempt(track.n, way) }),
            Some(Pace::Short { .. }) | None => Some(Event::LeaseLost { attempt: attempt(track.n, way) }),
        },
        StepState::Planned | StepState::Done | StepState::Faulted | StepState::Undone | StepState::Abandoned => None,
    })
}

fn pace(plan: &Plan, seq: usize, way: Way) -> Option<Pace> {
    let planned = plan.steps.get(seq)?;
    let call = match (way, &planned.work) {
        (Way::Do, Work::Worker(call)) => Some(call),
        (Way::Do, Work::Engine(_)) => None,
        (Way::Probe, _) => planned.probe.as_ref(),
        (Way::Undo, _) => planned.undo.as_ref().map(|it| &it.call),
    };
    call.map(|it| it.pace)
}

async fn deadlines(database: &Database, now: Timestamp) -> anyhow::Result<Vec<Item>> {
    let ids: Vec<uuid::Uuid> = due::deadlines(now).into_tuple().all(database.read()).await?;
    Ok(ids.into_iter().map(|id| Item::Due { operation: OperationId(id), event: Event::DeadlinePassed }).collect())
}

/// Objects whose destruction was asked for while they were held, and that nobody holds any more.
async fn destroys(database: &Database) -> anyhow::Result<Vec<Item>> {
    let ids: Vec<uuid::Uuid> = due::destroys().into_tuple().all(database.read()).await?;
    Ok(ids.into_iter().map(|id| Item::Due { operation: OperationId(id), event: Event::HoldsGone }).collect())
}

async fn waiting_places(database: &Database) -> anyhow::Result<Vec<Item>> {
    let places: Vec<String> = due::waiting_places().into_tuple().all(database.read()).await?;
    Ok(places.into_iter().map(Item::Wake).collect())
}

/// Queues for which something waits in the database.
async fn queues(database: &Database) -> anyhow::Result<Vec<Item>> {
    let names: Vec<String> = due::queues().into_tuple().all(database.read()).await?;
    Ok(names.into_iter().map(Item::Refill).collect())
}

/// Stores in which packs are due to be removed get a sweep, one for each period; those in which something may remain of abandoned
/// operations one for each grace.
async fn sweeps(database: &Database, now: Timestamp, config: Config) -> anyhow::Result<Vec<Item>> {
    let dying: Vec<i32> = due::sweeps(now).into_tuple().all(database.read()).await?;
    let remains = due::remains().into_model::<due::Remaining>().all(database.read()).await?;
    let remains: BTreeMap<i32, i64> = remains.into_iter().map(|it| (it.place_id, it.at)).collect();
    let places = dying.iter().chain(remains.keys()).copied();
    let places = place::Entity::find().filter(place::Column::Id.is_in(places)).filter(place::Column::Role.eq("store"));
    let mut items = vec![];
    for store in places.all(database.read()).await? {
        let every_s = u64::from(config.sweep_every_s.max(1));
        let grace_s = packs::grace_s(&store).max(every_s);
        if dying.contains(&store.id) {
            items.push(sweep(&store, &period(now, every_s).to_string()));
        } else if remains.get(&store.id).is_some_and(|at| Timestamp(*at).plus_s(packs::grace_s(&store)) <= now) {
            items.push(sweep(&store, &format!("remains/{}", period(now, grace_s))));
        }
    }
    Ok(items)
}

/// The number of the period of so many seconds in which a time is.
fn period(at: Timestamp, length_s: u64) -> i64 {
    at.0 / i64::try_from(length_s).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// A sweep of a store. Engines that find the same agree on the message id: one sweep.
fn sweep(store: &place::Model, period: &str) -> Item {
    Item::Command(Arc::new(Command {
        kind: SweepStore::KIND.to_owned(),
        message_id: format!("sweep/{}/{period}", store.name),
        user: names::ENGINE_USER.to_owned(),
        tenant: None,
        reply_to: None,
        correlation_id: None,
        priority: 0,
        body: serde_json::json!({"store": store.name}),
    }))
}

/// How many messages wait to be sent, and since when: for metrics.
pub async fn outbox_length(database: &Database) -> anyhow::Result<u64> {
    use sea_orm::PaginatorTrait;
    Ok(outbox::Entity::find().count(database.read()).await?)
}

/// How many unstarted steps are counted in each queue: for metrics.
pub async fn queue_lengths(database: &Database) -> anyhow::Result<Vec<queue::Model>> {
    Ok(queue::Entity::find().all(database.read()).await?)
}
