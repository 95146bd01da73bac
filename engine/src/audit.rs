//! The reading side: operations, history, places and workers as the contract shows them. Every query is by key
//! or by an index in its order; lists use keyset pagination.

use crate::{
    journal::history as chain,
    ledger::{self, Shortage},
    plan::Choice,
};
use anyhow::Context;
use longshore_schema::{
    fault::Fault,
    ids::OperationId,
    tables::{history, hold, operation, place, step, worker},
    time::Timestamp,
    wire::Announce,
};
use schemars::JsonSchema;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// An operation as JSON, a promise of the contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationView {
    /// Its id.
    pub id: OperationId,
    /// Its kind.
    pub kind: String,
    /// Its zone, or region for what has none.
    pub zone: String,
    /// Whose.
    pub tenant: String,
    /// Given by the command.
    pub name: Option<String>,
    /// `allocated copying ready destroying destroyed failed`.
    pub state: String,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// Why it failed, or goes back.
    pub fault: Option<Fault>,
    /// The command's body.
    pub params: Value,
    /// What it made, once Ready.
    pub output: Option<Value>,
    /// The path that was chosen, and why.
    pub path: Option<PathView>,
    /// The step under way.
    pub progress: Option<ProgressView>,
    /// Operations that hold it.
    pub holders: Vec<OperationId>,
    /// Undoing fails again and again: a person should look.
    pub needs_attention: bool,
    /// A destroy was asked for while it was held.
    pub destroy_requested: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The path of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathView {
    /// `direct` or `staged`.
    pub chosen: String,
    /// The row of the capability table that decided.
    pub because: String,
}

/// Progress of an operation's step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressView {
    /// The step's name.
    pub step: String,
    /// `sent running resting`.
    pub state: String,
    /// `do probe undo`.
    pub way: String,
    /// The attempt's number.
    pub attempt: i32,
    /// Who runs it.
    pub worker: Option<String>,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
    /// Why the last attempt failed.
    pub last_fault: Option<Fault>,
}

/// One row of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryView {
    /// The operation.
    pub operation: OperationId,
    /// From 1, without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The event whole.
    pub event: Value,
    /// State before; null for the first.
    pub from: Option<String>,
    /// State after.
    pub to: String,
    /// Who.
    pub actor: String,
    /// BLAKE3 chain, hex.
    pub digest: String,
}

/// A place with its ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceView {
    /// Its name.
    pub name: String,
    /// `pool store staging`.
    pub role: String,
    /// Its zone; or a region.
    pub zone: Option<String>,
    /// Its region; or a zone.
    pub region: Option<String>,
    /// Where.
    pub url: String,
    /// Bytes.
    pub total: u64,
    /// Bytes that may be booked: total, overcommit and threshold.
    pub limit: u64,
    /// Booked and not yet used.
    pub reserved: u64,
    /// Used.
    pub used: u64,
    /// Operations that wait for it.
    pub waiting: u64,
    /// Stores: bytes of an extent.
    pub extent_size: Option<u32>,
}

/// A worker as it last announced itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerView {
    /// What it said.
    #[serde(flatten)]
    pub announced: Announce,
    /// When it was last heard.
    pub seen_at: Timestamp,
    /// Seconds since then.
    pub silent_s: f64,
}

/// Which operations to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only of this zone.
    pub zone: Option<String>,
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only older than this one: the last id of the page before.
    pub after: Option<OperationId>,
    /// At most so many, 1 to 1000; 100 if absent.
    pub limit: Option<u64>,
}

/// Operations, the newest first.
pub async fn list(db: &impl ConnectionTrait, filter: &Filter) -> anyhow::Result<Vec<OperationView>> {
    let rows = listed(filter).all(db).await.context("list operations")?;
    views(db, rows).await
}

/// The rows of `list`. Each filter has its index in the order of the list; of several, the index of the one that leaves
/// the fewest rows is read.
pub fn listed(filter: &Filter) -> Select<operation::Entity> {
    let mut query = operation::Entity::find().order_by_desc(operation::Column::Id);
    let conditions = [
        (operation::Column::State, &filter.state),
        (operation::Column::Kind, &filter.kind),
        (operation::Column::Zone, &filter.zone),
        (operation::Column::Tenant, &filter.tenant),
    ];
    for (column, wanted) in conditions {
        query = wanted.iter().fold(query, |query, wanted| query.filter(column.eq(wanted)));
    }
    if let Some(after) = filter.after {
        query = query.filter(operation::Column::Id.lt(after.0));
    }
    query.limit(filter.limit.unwrap_or(100).clamp(1, 1000))
}

/// One operation.
pub async fn show(db: &impl ConnectionTrait, id: OperationId) -> anyhow::Result<Option<OperationView>> {
    let row = operation::Entity::find_by_id(id.0).one(db).await.context("read the operation")?;
    Ok(views(db, row.into_iter().collect()).await?.pop())
}

/// An operation's history from after `seq` on.
pub async fn history(db: &impl ConnectionTrait, id: OperationId, seq: i64, limit: u64) -> anyhow::Result<Vec<HistoryView>> {
    let rows = events_of(id, seq, limit).all(db).await.context("read the history")?;
    rows.into_iter().map(history_view).collect()
}

/// The rows of `history`.
pub fn events_of(id: OperationId, seq: i64, limit: u64) -> Select<history::Entity> {
    history::Entity::find()
        .filter(history::Column::OperationId.eq(id.0))
        .filter(history::Column::Seq.gt(seq))
        .order_by_asc(history::Column::Seq)
        .limit(limit)
}

/// Which rows of the history of all operations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Only<'a> {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub before: Option<Timestamp>,
    /// Of operations of this kind.
    pub kind: Option<&'a str>,
    /// What this one did.
    pub actor: Option<&'a str>,
}

/// Rows of the history of all operations, newest first: for audits.
pub async fn audit(db: &impl ConnectionTrait, only: Only<'_>, limit: u64) -> anyhow::Result<Vec<HistoryView>> {
    let rows = audited(only, limit).all(db).await.context("read the history")?;
    rows.into_iter().map(history_view).collect()
}

/// The rows of `audit`.
pub fn audited(only: Only<'_>, limit: u64) -> Select<history::Entity> {
    let mut query = history::Entity::find().order_by_desc(history::Column::At).order_by_desc(history::Column::Seq);
    if let Some(since) = only.since {
        query = query.filter(history::Column::At.gte(since.0));
    }
    if let Some(before) = only.before {
        query = query.filter(history::Column::At.lt(before.0));
    }
    if let Some(actor) = only.actor {
        query = query.filter(history::Column::Actor.eq(actor));
        // People do little of what happens: what they did has an index of its own.
        if actor.starts_with("user:") {
            query = query.filter(Expr::cust(history::BY_USER));
        }
    }
    if let Some(kind) = only.kind {
        let of_kind = operation::Entity::find().select_only().column(operation::Column::Id);
        let of_kind = of_kind.filter(operation::Column::Kind.eq(kind)).into_query();
        query = query.filter(history::Column::OperationId.in_subquery(of_kind));
    }
    query.limit(limit)
}

/// What is wrong with an operation's history, in words; empty if nothing is. `None`: no such operation.
pub async fn verify_history(db: &impl ConnectionTrait, id: OperationId) -> anyhow::Result<Option<Vec<String>>> {
    let Some(row) = operation::Entity::find_by_id(id.0).one(db).await? else { return Ok(None) };
    let rows = history::Entity::find().filter(history::Column::OperationId.eq(id.0)).order_by_asc(history::Column::Seq);
    Ok(Some(chain::verify(&row, &rows.all(db).await?)))
}

/// Places of a role, by name.
pub async fn places(db: &impl ConnectionTrait, role: &str) -> anyhow::Result<Vec<PlaceView>> {
    use sea_orm::PaginatorTrait;
    let rows = place::Entity::find().filter(place::Column::Role.eq(role)).order_by_asc(place::Column::Name).all(db).await?;
    let mut views = vec![];
    for row in rows {
        let waiting = operation::Entity::find().filter(operation::Column::WaitingPlace.eq(&row.name)).count(db).await?;
        let bytes = |it: i64| u64::try_from(it).unwrap_or(0);
        views.push(PlaceView {
            limit: bytes(ledger::limit(&row)),
            name: row.name,
            role: row.role,
            zone: row.zone,
            region: row.region,
            url: row.url,
            total: bytes(row.total),
            reserved: bytes(row.reserved),
            used: bytes(row.used),
            waiting,
            extent_size: u32::try_from(row.extent_size).ok().filter(|it| *it > 0),
        });
    }
    Ok(views)
}

/// Workers, by id.
pub async fn workers(db: &impl ConnectionTrait, now: Timestamp) -> anyhow::Result<Vec<WorkerView>> {
    let rows = worker::Entity::find().order_by_asc(worker::Column::Id).all(db).await?;
    let view = |row: worker::Model| {
        let seen_at = Timestamp(row.seen_at);
        Ok(WorkerView { announced: serde_json::from_value(row.announced)?, seen_at, silent_s: now.seconds_since(seen_at) })
    };
    rows.into_iter().map(view).collect()
}

async fn views(db: &impl ConnectionTrait, rows: Vec<operation::Model>) -> anyhow::Result<Vec<OperationView>> {
    let ids: Vec<_> = rows.iter().map(|it| it.id).collect();
    let holds = holds_on(&ids).all(db).await?;
    let out = steps_out(&ids).all(db).await?;
    let mut shortages = shortages(db, &rows).await?;
    rows.into_iter()
        .map(|mut row| {
            row.waiting_for = shortages.remove(&row.id).or(row.waiting_for);
            let progress = out.iter().find(|it| it.operation_id == row.id).map(progress_view).transpose()?;
            let holders = holds.iter().filter(|it| it.object_id == row.id).map(|it| OperationId(it.holder_id)).collect();
            view(row, progress, holders)
        })
        .collect()
}

/// Holds on these objects.
pub fn holds_on(ids: &[Uuid]) -> Select<hold::Entity> {
    hold::Entity::find().filter(hold::Column::ObjectId.is_in(ids.iter().copied()))
}

/// Steps of these operations that are under way.
pub fn steps_out(ids: &[Uuid]) -> Select<step::Entity> {
    step::Entity::find()
        .filter(step::Column::OperationId.is_in(ids.iter().copied()))
        .filter(step::Column::State.is_in(["sent", "running", "resting"]))
}

/// What those that wait for space lack now: what the row says was so when the wait began.
async fn shortages(db: &impl ConnectionTrait, rows: &[operation::Model]) -> anyhow::Result<BTreeMap<Uuid, String>> {
    let names: BTreeSet<_> = rows.iter().filter_map(|it| it.waiting_place.clone()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let queues = ledger::queues(db, &names).await?;
    let places = place::Entity::find().filter(place::Column::Name.is_in(names)).all(db).await.context("read the places")?;
    let told = rows.iter().filter_map(|row| {
        let place = places.iter().find(|it| Some(&it.name) == row.waiting_place.as_ref())?;
        // Who isn't in the queue any more has just been granted what it waited for.
        let ahead = queues.get(&place.name)?.iter().position(|it| *it == row.id)?;
        let shortage = Shortage::new(place, ledger::left(place), row.waiting_bytes, ahead as u64);
        Some((row.id, shortage.to_string()))
    });
    Ok(told.collect())
}

fn view(row: operation::Model, progress: Option<ProgressView>, holders: Vec<OperationId>) -> anyhow::Result<OperationView> {
    let choice: Option<Choice> = row.plan.get("path").cloned().map(serde_json::from_value).transpose()?.flatten();
    Ok(OperationView {
        id: OperationId(row.id),
        kind: row.kind,
        zone: row.zone,
        tenant: row.tenant,
        name: row.name,
        state: row.state,
        waiting_for: row.waiting_for,
        fault: row.fault.map(serde_json::from_value).transpose()?,
        params: row.params,
        output: row.output,
        path: choice.map(|it| PathView { chosen: it.chosen, because: it.because }),
        progress,
        holders,
        needs_attention: row.needs_attention,
        destroy_requested: row.destroy_requested,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    })
}

fn progress_view(row: &step::Model) -> anyhow::Result<ProgressView> {
    Ok(ProgressView {
        step: row.name.clone(),
        state: row.state.clone(),
        way: row.way.clone(),
        attempt: row.attempt,
        worker: row.worker.clone(),
        done_bytes: u64::try_from(row.done_bytes)?,
        total_bytes: row.total_bytes.map(u64::try_from).transpose()?,
        last_fault: row.fault.clone().map(serde_json::from_value).transpose()?,
    })
}

fn history_view(row: history::Model) -> anyhow::Result<HistoryView> {
    Ok(HistoryView {
        operation: OperationId(row.operation_id),
        seq: row.seq,
        at: Timestamp(row.at),
        event: serde_json::from_str(&row.event)?,
        from: row.from_state,
        to: row.to_state,
        actor: row.actor,
        digest: row.digest.iter().map(|it| format!("{it:02x}")).collect(),
    })
}
