//! An engine: intake, journal, outbox relay and clock on one database and one broker. Any number may run.

use crate::{clock, config::Config, database::Database, intake, journal::Journal, outbox::Relay};
use anyhow::Context;
use longshore_courier::{Courier, Queue};
use longshore_schema::{
    tables::{site, zone},
    wire::{Control, WorkerKind, names},
};
use sea_orm::EntityTrait;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Runs until `stop`; then takes nothing new, settles what is under way, and returns.
pub async fn run(database: Database, courier: Arc<dyn Courier>, config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    declare(&database, &*courier).await.context("declare the queues")?;
    let relay_stop = CancellationToken::new();
    let (relay, relay_task) = Relay::start(database.clone(), courier.clone(), relay_stop.clone());
    let (journal, journal_task) = Journal::start(database.clone(), config, relay);
    let clock = tokio::spawn(clock::run(database.clone(), journal.clone(), config, stop.clone()));
    let site = tokio::spawn(watch_site(database, courier.clone(), stop.clone()));
    let taken = intake::run(courier, journal, stop.clone()).await;
    stop.cancel();
    let (_, _) = tokio::join!(clock, site);
    // The journal ends when nobody can submit any more; the relay when all is handed over.
    let _ = journal_task.await;
    relay_stop.cancel();
    let _ = relay_task.await;
    taken
}

/// Queues that exist whatever workers there are.
async fn declare(database: &Database, courier: &dyn Courier) -> anyhow::Result<()> {
    let durable =
        |name: &str, exchange: &str| Queue::Durable { name: name.into(), exchange: exchange.into(), routing_key: "#".into() };
    let mut queues = vec![durable(names::COMMANDS, names::COMMANDS), durable(names::REPORTS, names::REPORTS)];
    for zone in zone::Entity::find().all(database.read()).await? {
        queues.extend(WorkerKind::ALL.iter().map(|kind| intake::steps_queue(&names::zone_queue(&zone.name, kind.as_str()))));
    }
    courier.declare(&queues).await
}

/// When the site changes, its queues are declared and the workers are told.
async fn watch_site(database: Database, courier: Arc<dyn Courier>, stop: CancellationToken) {
    let mut known = None;
    loop {
        let version = site::Entity::find_by_id(1).one(database.read()).await.ok().flatten().map(|it| it.version);
        if version.is_some() && version != known {
            if let Err(error) = declare(&database, &*courier).await {
                tracing::warn!(error = format!("{error:#}"), "could not declare the queues of a changed site");
            } else if let Some(site_version) = version
                && let Ok(body) = serde_json::to_vec(&Control::SiteChanged { site_version })
            {
                let parcel = longshore_courier::Parcel {
                    exchange: names::CONTROL.into(),
                    routing_key: "all".into(),
                    mandatory: false,
                    properties: longshore_courier::Properties::default(),
                    body: body.into(),
                };
                // A worker that misses it announces itself within ten seconds anyway.
                let _ = courier.publish(vec![parcel]).await;
                known = version;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => (),
            () = stop.cancelled() => return,
        }
    }
}
