//! Metrics in Prometheus' text format. What is counted in the database is read at most every few seconds, whoever asks and
//! however often. What grows without bound (operations that are settled) is counted beside, at most once a minute and for a
//! hundredth of the time.

use super::{
    App,
    events::Changes,
    parameters::{Asked, Parameters},
    refusal::Refusal,
};
use crate::{
    audit, clock,
    config::Config,
    database::{self, Database},
};
use anyhow::Context;
use axum::{extract::State, http::header, response::IntoResponse};
use longshore_schema::{site::Role, tables::operation};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

const FRESH: Duration = Duration::from_secs(3);
const SETTLED_FRESH: Duration = Duration::from_secs(60);
/// Settled operations are counted again after so many times as long as it took: ten million take seconds.
const SETTLED_REST: u32 = 100;
/// Who asks waits so long for a count that is due; then the one before has to do.
const SETTLED_PATIENCE: Duration = Duration::from_secs(2);
const LIVE: [&str; 3] = ["allocated", "copying", "destroying"];
const SETTLED: [&str; 3] = ["destroyed", "failed", "ready"];

type ByState = Vec<(&'static str, u64)>;

/// What was counted, and when.
#[derive(Debug, Default)]
pub(super) struct Counts {
    live: Mutex<Option<(Instant, String)>>,
    settled: Arc<Settled>,
}

#[derive(Debug, Default)]
struct Settled {
    /// None until they were counted once.
    states: std::sync::Mutex<ByState>,
    /// When they are to be counted again. Locked while they are.
    next: Mutex<Option<Instant>>,
}

/// All metrics.
pub(super) async fn show(State(app): State<Arc<App>>, asked: Asked) -> Result<impl IntoResponse, Refusal> {
    Parameters::read(asked, &[])?;
    let text = format!("{}{}", app.counts.text(&app.database).await?, changes(&app.feed.changes()));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

impl Counts {
    async fn text(&self, database: &Database) -> anyhow::Result<String> {
        let mut live = self.live.lock().await;
        match &*live {
            Some((at, text)) if at.elapsed() < FRESH => Ok(text.clone()),
            _ => {
                let mut states = count(database, &LIVE).await?;
                states.extend(self.settled(database).await);
                let text = read(database, states).await?;
                *live = Some((Instant::now(), text.clone()));
                Ok(text)
            }
        }
    }

    async fn settled(&self, database: &Database) -> ByState {
        // It goes on when nobody waits for it any more.
        let counting = tokio::spawn(count_settled(database.clone(), self.settled.clone()));
        let _ = tokio::time::timeout(SETTLED_PATIENCE, counting).await;
        self.settled.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts settled operations if that is due and nobody does it already.
async fn count_settled(database: Database, settled: Arc<Settled>) {
    let Ok(mut next) = settled.next.try_lock() else { return };
    if next.is_some_and(|it| Instant::now() < it) {
        return;
    }
    let started = Instant::now();
    match count(&database, &SETTLED).await {
        Ok(states) => *settled.states.lock().unwrap_or_else(PoisonError::into_inner) = states,
        Err(error) => tracing::warn!(error = format!("{error:#}"), "could not count settled operations"),
    }
    *next = Some(Instant::now() + SETTLED_FRESH.max(started.elapsed() * SETTLED_REST));
}

/// Operations in these states, by the index on the state.
async fn count(database: &Database, states: &[&'static str]) -> anyhow::Result<ByState> {
    let counted = operation::Entity::find()
        .select_only()
        .column(operation::Column::State)
        .column_as(operation::Column::Id.count(), "operations")
        .filter(operation::Column::State.is_in(states.iter().copied()))
        .group_by(operation::Column::State);
    let found: Vec<(String, i64)> = counted.into_tuple().all(database.read()).await.context("count operations")?;
    let of = |state: &str| found.iter().find(|(it, _)| it == state).map_or(0, |(_, count)| u64::try_from(*count).unwrap_or(0));
    Ok(states.iter().map(|state| (*state, of(state))).collect())
}

async fn read(database: &Database, states: ByState) -> anyhow::Result<String> {
    let db = database.read();
    let attention = operation::Entity::find()
        .filter(operation::Column::State.is_in(LIVE))
        .filter(operation::Column::NeedsAttention.eq(true))
        .count(db)
        .await
        .context("count operations that need attention")?;
    let now = database::now(db).await.context("read the database's clock")?;
    let silence = f64::from(Config::default().worker_silence_s);
    let mut live = BTreeMap::<(String, &'static str), u64>::new();
    for worker in audit::workers(db, now).await? {
        let counts = worker.silent_s <= silence && !worker.announced.leaving;
        *live.entry((worker.announced.zone, worker.announced.kind.as_str())).or_default() += u64::from(counts);
    }
    let mut places = audit::places(db, Role::Store.as_str()).await?;
    places.extend(audit::places(db, Role::Pool.as_str()).await?);
    let queues = clock::queue_lengths(database).await?;

    let mut page = Page::default();
    page.family("longshore_build_info", "gauge", "The version of this engine.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("longshore_operations", "gauge", "Operations by state; settled ones are counted once a minute, or more seldom.");
    states.iter().for_each(|(state, count)| page.sample(&[("state", state)], *count));
    page.family("longshore_operations_attention", "gauge", "Operations that a person should look at.");
    page.sample(&[], attention);
    page.family("longshore_outbox_messages", "gauge", "Messages that the broker hasn't confirmed yet.");
    page.sample(&[], clock::outbox_length(database).await?);
    page.family(
        "longshore_queue_unstarted_steps",
        "gauge",
        "Steps in a queue of the broker that no worker is known to have started.",
    );
    queues.iter().for_each(|it| page.sample(&[("queue", &it.name)], u64::try_from(it.unstarted).unwrap_or(0)));
    page.family("longshore_workers_live", "gauge", "Workers that were heard of lately and aren't leaving.");
    live.iter().for_each(|((zone, kind), count)| page.sample(&[("zone", zone), ("kind", kind)], *count));
    type Column = (&'static str, &'static str, fn(&audit::PlaceView) -> u64);
    let columns: [Column; 5] = [
        ("longshore_place_total_bytes", "Capacity of a place.", |it| it.total),
        ("longshore_place_limit_bytes", "What may be booked: capacity, overcommit and threshold.", |it| it.limit),
        ("longshore_place_reserved_bytes", "Booked and not yet used.", |it| it.reserved),
        ("longshore_place_used_bytes", "Used.", |it| it.used),
        ("longshore_place_waiting_operations", "Operations that wait for space in a place.", |it| it.waiting),
    ];
    for (name, help, value) in columns {
        page.family(name, "gauge", help);
        places.iter().for_each(|it| page.sample(&[("place", &it.name), ("role", &it.role)], value(it)));
    }
    Ok(page.text)
}

/// Every engine sees every engine's changes: a sum over engines counts them several times.
fn changes(seen: &Changes) -> String {
    let mut page = Page::default();
    let help = "Changes of state seen by this process, whichever engine made them.";
    page.family("longshore_state_changes_total", "counter", help);
    seen.iter().for_each(|((kind, to), count)| page.sample(&[("kind", kind), ("to", to)], *count));
    page.text
}

/// A page of metrics.
#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String can't fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_can_say_anything() {
        let mut page = Page::default();
        page.family("m", "gauge", "Help.");
        page.sample(&[("a", "x\"y\\z\n"), ("b", "")], 7);
        page.sample(&[], 0);
        assert_eq!(page.text, "# HELP m Help.\n# TYPE m gauge\nm{a=\"x\\\"y\\\\z\\n\",b=\"\"} 7\nm 0\n");
    }
}
