//! Engine and workers in one process, over channels. It holds the database's lock, and serves the socket
//! beside the database for every other `longshore` of the user's.
//!
//! There is one worker for each zone of the site: on one host, all of them are here. Where there are several, one more
//! reaches the stores of all of them, so that objects can be copied from zone to zone.

use anyhow::Context;
use longshore_courier::{Courier, Queue, embedded::Embedded as Hub, socket};
use longshore_engine::{config::Config, database::Database, engine};
use longshore_schema::{
    site::{Role, is_name},
    tables::{place, worker, zone},
    wire::{Announce, WorkerKind, names},
};
use longshore_workers::{config, hypervisor::kvm, opener::HostOpener, steps, worker::Worker};
use sea_orm::EntityTrait;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long places may take to be reached before commands are taken all the same.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// How it is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where the socket goes.
    pub(crate) socket: PathBuf,
    /// This host's name.
    pub(crate) host: String,
    /// Long steps at once, in each zone.
    pub(crate) concurrency: u32,
    /// Times and limits of the engine.
    pub(crate) config: Config,
}

/// An engine with its workers.
#[derive(Debug)]
pub(crate) struct Embedded {
    hub: Hub,
    stop_workers: CancellationToken,
    stop_engine: CancellationToken,
    workers: JoinHandle<anyhow::Result<()>>,
    engine: JoinHandle<anyhow::Result<()>>,
    socket: JoinHandle<anyhow::Result<()>>,
    _lock: Arc<File>,
}

impl Embedded {
    /// Starts all of it, and returns when the places were tried.
    pub(crate) async fn start(database: &Database, lock: Arc<File>, options: Options) -> anyhow::Result<Embedded> {
        let (hub, started) = (Hub::new(), longshore_engine::database::now(database.read()).await?);
        let (stop_workers, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let courier: Arc<dyn Courier> = Arc::new(hub.courier());
        let commands = Queue::Durable { name: names::COMMANDS.into(), exchange: names::COMMANDS.into(), routing_key: "#".into() };
        courier.declare(&[commands]).await.context("declare the queue of commands")?;
        let engine = tokio::spawn(engine::run(database.clone(), courier, options.config, stop_engine.clone()));
        kvm::clean_up();
        let tools = kvm::tools().await;
        let workers = Workers { database: database.clone(), hub: hub.clone(), options: options.clone(), tools };
        let workers = tokio::spawn(workers.run(stop_workers.clone()));
        if tokio::time::timeout(READY_LIMIT, all_tried(database, &options.host, started.0)).await.is_err() {
            tracing::warn!("some places were not tried yet; commands about them may be refused for now");
        }
        let serving: Arc<dyn Courier> = Arc::new(hub.courier());
        let (path, stop) = (options.socket, stop_engine.clone());
        let socket = tokio::spawn(async move { socket::serve(&path, serving, stop).await });
        Ok(Embedded { hub, stop_workers, stop_engine, workers, engine, socket, _lock: lock })
    }

    /// A connection for commands.
    pub(crate) fn courier(&self) -> Arc<dyn Courier> {
        Arc::new(self.hub.courier())
    }

    /// Returns when a part of it ended by itself, which none does while all is well.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let (part, ended) = tokio::select! {
            ended = &mut self.engine => ("engine", ended),
            ended = &mut self.workers => ("workers", ended),
            ended = &mut self.socket => ("socket", ended),
        };
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("the {part} ended"),
            Ok(Err(error)) => error.context(format!("run the {part}")),
            Err(error) => anyhow::Error::new(error).context(format!("run the {part}")),
        }
    }

    /// Ends it: first the workers, which report what they finished, then the engine, which absorbs it.
    pub(crate) async fn stop(self) {
        self.stop_workers.cancel();
        let workers = async { if self.workers.is_finished() { None } else { Some(self.workers.await) } };
        let workers = workers.await;
        self.stop_engine.cancel();
        let engine = if self.engine.is_finished() { None } else { Some(self.engine.await) };
        let socket = if self.socket.is_finished() { None } else { Some(self.socket.await) };
        for ended in [workers, engine, socket].into_iter().flatten() {
            if let Err(error) = ended.map_err(anyhow::Error::new).and_then(|it| it) {
                tracing::error!(error = format!("{error:#}"), "a part of the engine ended badly");
            }
        }
    }
}

struct Workers {
    database: Database,
    hub: Hub,
    options: Options,
    tools: BTreeMap<String, String>,
}

impl Workers {
    /// A worker for each zone, also for those that come later, and one between them from the second one on.
    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut known, mut running) = (BTreeSet::new(), JoinSet::new());
        let ended = loop {
            for zone in zones(&self.database).await.unwrap_or_default() {
                if known.insert(zone.clone()) {
                    running.spawn(self.worker(WorkerKind::Kvm, &zone, host_in(&self.options.host, &zone), stop.clone()));
                    if known.len() == 2 {
                        running.spawn(self.worker(WorkerKind::Transfer, &zone, self.options.host.clone(), stop.clone()));
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Some(ended) = running.join_next() => break ended.map_err(anyhow::Error::new).and_then(|it| it),
                () = tokio::time::sleep(Duration::from_millis(500)) => (),
            }
        };
        stop.cancel();
        while running.join_next().await.is_some() {}
        ended
    }

    fn worker(
        &self,
        kind: WorkerKind,
        zone: &str,
        host: String,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let mut config = config::Config::new(kind, zone, host);
        config.concurrency = self.options.concurrency;
        config.tools.clone_from(&self.tools);
        let courier: Arc<dyn Courier> = Arc::new(self.hub.courier());
        Worker::run(config, courier, steps::handlers(), Arc::new(HostOpener), stop)
    }
}

async fn zones(database: &Database) -> anyhow::Result<Vec<String>> {
    let zones = zone::Entity::find().all(database.read()).await.context("read the zones")?;
    Ok(zones.into_iter().map(|it| it.name).collect())
}

/// Workers of several zones on one host don't share a queue: each has a host's name of its own.
fn host_in(host: &str, zone: &str) -> String {
    let room = 62usize.saturating_sub(zone.len());
    let host = host.get(..host.len().min(room)).unwrap_or_default();
    if host.is_empty() { zone.to_owned() } else { format!("{host}-{zone}") }
}

/// This host's name, in the letters that names of hosts may have.
pub(crate) fn host_name() -> String {
    as_name(&rustix::system::uname().nodename().to_string_lossy())
}

fn as_name(text: &str) -> String {
    let first = text.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let plain: String = first.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '-' }).take(63).collect();
    let plain = plain.trim_matches('-');
    if is_name(plain) { plain.to_owned() } else { "localhost".into() }
}

/// Waits until each worker said of all its places whether it reaches them.
async fn all_tried(database: &Database, host: &str, since: i64) {
    loop {
        if matches!(untried(database, host, since).await, Ok(false)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn untried(database: &Database, host: &str, since: i64) -> anyhow::Result<bool> {
    let workers = worker::Entity::find().all(database.read()).await?;
    let places = place::Entity::find().all(database.read()).await?;
    let zones = zone::Entity::find().all(database.read()).await?;
    for zone in &zones {
        let near = |it: &&place::Model| it.zone.as_ref() == Some(&zone.name) || it.region.as_ref() == Some(&zone.region);
        if has_untried(&workers, &host_in(host, &zone.name), since, places.iter().filter(near))? {
            return Ok(true);
        }
    }
    let stores = places.iter().filter(|it| it.role == Role::Store.as_str());
    Ok(zones.len() > 1 && has_untried(&workers, host, since, stores)?)
}

/// Whether the worker of that host didn't say yet of all these places whether it reaches them.
fn has_untried<'p>(
    workers: &[worker::Model],
    host: &str,
    since: i64,
    mut places: impl Iterator<Item = &'p place::Model>,
) -> anyhow::Result<bool> {
    let Some(worker) = workers.iter().find(|it| it.host == host && it.seen_at >= since) else { return Ok(true) };
    let said: Announce = serde_json::from_value(worker.announced.clone())?;
    let tried = |name: &String| said.pools.contains(name) || said.stores.contains(name) || said.problems.contains_key(name);
    Ok(places.any(|it| !tried(&it.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_what_names_may_have() {
        for (text, name) in [
            ("db-1.example.com", "db-1"),
            ("My_Host", "my-host"),
            ("host", "localhost"),
            ("", "localhost"),
            ("-.x", "localhost"),
            ("ä", "localhost"),
        ] {
            assert_eq!(as_name(text), name, "{text}");
        }
        assert!(is_name(&host_name()));
    }

    #[test]
    fn a_host_in_a_zone_is_a_name_however_long_both_are() {
        for (host, zone) in [("a".to_owned(), "z1".to_owned()), ("a".repeat(63), "z1".into()), ("a".repeat(63), "z".repeat(63))] {
            let name = host_in(&host, &zone);
            assert!(is_name(&name) && name.ends_with(&zone), "{name}");
        }
    }
}
