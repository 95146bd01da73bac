//! What orchestration costs: operations of four steps with workers that do nothing, so that everything measured
//! is engine, runtime, broker and database. One process has engine, worker and control plane, each with its
//! own connection to the broker.

use super::{
    counted::{Counted, Counts},
    limits,
    marks::Marks,
    usage,
};
use crate::services::{Services, unique};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use longshore_courier::{Courier, Parcel, Properties, Queue, embedded::Embedded};
use longshore_engine::{
    config::Config,
    database::Database,
    engine,
    operation::idle::{Rest, STEPS},
    site,
};
use longshore_schema::{
    site::Site,
    tables::{operation, worker},
    wire::{CloudEvent, WorkerKind, names},
};
use longshore_workers::{config::Config as WorkerConfig, opener::HostOpener, steps::Handlers, worker::Worker as Runtime};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, Statement};
use serde_json::{Value, json};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// What runs below the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// SQLite and channels in one process.
    Embedded,
    /// PostgreSQL with fsync, and RabbitMQ's quorum queues.
    Services,
}

/// A new database, and a new virtual host or none.
pub(super) struct Fresh {
    /// What is below, unless it is in this process.
    pub(super) services: Option<Services>,
    /// Has the database that is in this process, and goes with it.
    pub(super) scratch: tempfile::TempDir,
    /// The database's address.
    pub(super) url: String,
    /// The broker's.
    pub(super) vhost: Option<String>,
}

impl Parts {
    /// A place for one measurement.
    pub(super) async fn fresh(self) -> Result<Fresh> {
        let services = (self == Parts::Services).then(Services::from_env);
        let scratch = tempfile::Builder::new().prefix("longshore-bench-").tempdir()?;
        let (url, vhost) = match &services {
            Some(services) => (services.fresh_database().await, Some(services.fresh_vhost().await)),
            None => (format!("sqlite://{}/longshore.db", scratch.path().display()), None),
        };
        Ok(Fresh { services, scratch, url, vhost })
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Operations submitted at once.
    pub queued: usize,
    /// Operations submitted one after the other, each when the last is Ready.
    pub alone: usize,
    /// Engines side by side, each with its own connections to the broker.
    pub engines: usize,
    /// Unstarted steps in a queue of the broker, as in the engine's `Config`.
    pub queue_depth: i32,
}

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the measurement; the answer is one flat JSON object.
pub async fn run(parts: Parts, load: Load) -> Result<Value> {
    let Fresh { services, scratch: _scratch, url, vhost } = parts.fresh().await?;
    let bench = Bench::start(&url, vhost, load).await?;
    let mut figures = json!({"bench": "engine", "parts": format!("{parts:?}").to_lowercase(), "steps": STEPS});
    let mut put = |name: &str, value: f64| figures[name] = json!((value * 1000.0).round() / 1000.0);

    bench.submit_and_wait(200).await.context("warm up")?;
    let mut alone = bench.alone(load.alone).await?;
    put("p50_ms", percentile(&mut alone, 0.5));
    put("p99_ms", percentile(&mut alone, 0.99));

    let before = bench.reading(services.as_ref()).await?;
    let mut saturated = bench.submit_and_wait(load.queued).await?;
    let seconds = saturated.iter().copied().fold(0.0, f64::max) / 1000.0;
    let after = bench.reading(services.as_ref()).await?;
    let count = load.queued as f64;
    put("queue_depth", load.queue_depth.into());
    put("engines", load.engines as f64);
    put("operations", count);
    put("operations_per_s", count / seconds);
    put("queued_p50_ms", percentile(&mut saturated, 0.5));
    put("queued_p99_ms", percentile(&mut saturated, 0.99));
    put("queued_s", seconds);
    put("messages_per_operation", (after.messages - before.messages) as f64 / count);
    put("quorum_messages_per_operation", (after.quorum - before.quorum) as f64 / count);
    put("cpu_s_per_1000", (after.cpu() - before.cpu()) * 1000.0 / count);
    put("cpu_s_per_1000_own", (after.own_cpu_s - before.own_cpu_s) * 1000.0 / count);
    put("peak_rss_mib", usage::own_peak_bytes()? as f64 / f64::from(1 << 20));
    if services.is_some() {
        put("cpu_s_per_1000_postgres", (after.postgres_cpu_s - before.postgres_cpu_s) * 1000.0 / count);
        put("cpu_s_per_1000_rabbitmq", (after.rabbitmq_cpu_s - before.rabbitmq_cpu_s) * 1000.0 / count);
        put("commits_per_operation", (after.commits - before.commits) as f64 / count);
        put("wal_bytes_per_operation", (after.wal_bytes - before.wal_bytes) as f64 / count);
    }
    bench.end().await?;
    if let Some(services) = services {
        let vhost = services.fresh_vhost().await;
        // The better of two, since it differs by a third from one second to the next.
        let first = limits::messages_per_s(&vhost, 200, 20_000).await?;
        let messages = limits::messages_per_s(&vhost, 200, 20_000).await?.max(first);
        put("limit_messages_per_s", messages);
        put("limit_messages_per_s_alone", limits::messages_per_s(&vhost, 1, 1_000).await?);
        let database = services.fresh_database().await;
        put("limit_commits_per_s", limits::commits_per_s(&database, 8, 5).await?);
        put("limit_commits_per_s_alone", limits::commits_per_s(&database, 1, 5).await?);
        put("messages_needed", NEEDED as f64);
        put("of_message_limit", count / seconds * NEEDED as f64 / messages);
    }
    let percentiles = (1..=99).map(|part| percentile(&mut saturated, f64::from(part) / 100.0).round());
    figures["queued_percentiles_ms"] = json!(percentiles.collect::<Vec<_>>());
    Ok(figures)
}

/// Messages through quorum queues that an operation needs, if none goes together with others: its command, and one each way for
/// each step.
const NEEDED: usize = 1 + 2 * STEPS;

/// Engines, a worker and a control plane that run.
pub(super) struct Bench {
    pub(super) database: Database,
    control: Arc<dyn Courier>,
    counted: Arc<Counts>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

/// Readings of counters that only grow.
#[derive(Default)]
struct Reading {
    own_cpu_s: f64,
    postgres_cpu_s: f64,
    rabbitmq_cpu_s: f64,
    messages: u64,
    quorum: u64,
    commits: i64,
    wal_bytes: i64,
}

impl Reading {
    fn cpu(&self) -> f64 {
        self.own_cpu_s + self.postgres_cpu_s + self.rabbitmq_cpu_s
    }
}

impl Bench {
    /// On that database, and on that broker or in one process.
    pub(super) async fn start(url: &str, vhost: Option<String>, load: Load) -> Result<Bench> {
        Bench::start_marked(url, vhost, load, None).await
    }

    /// The same; its messages are marked.
    pub(super) async fn start_marked(url: &str, vhost: Option<String>, load: Load, marks: Option<Marks>) -> Result<Bench> {
        let counted = Arc::new(Counts::default());
        let hub = Embedded::new();
        let connect = async |name: &str| -> Result<Arc<dyn Courier>> {
            let courier: Arc<dyn Courier> = match &vhost {
                Some(url) => longshore_courier::open(url, name).await?,
                None => Arc::new(hub.courier()),
            };
            let counted: Arc<dyn Courier> = Arc::new(Counted { courier, counts: counted.clone(), marks: marks.clone() });
            Ok(counted)
        };
        let database = Database::open(url).await?;
        let known = site::read(database.read()).await?;
        let wanted = Site::parse("[[zone]]\nname = \"z1\"\nregion = \"r1\"\n").map_err(|error| anyhow::anyhow!("{error}"))?;
        site::apply(&database, &known, &wanted).await?.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let stop = CancellationToken::new();
        let config = Config { queue_depth: load.queue_depth, ..Config::default() };
        let mut tasks = vec![];
        for _ in 0..load.engines {
            let courier = connect("engine").await?;
            tasks.push(tokio::spawn(engine::run(database.clone(), courier, config, stop.clone())));
        }
        let mut worker = WorkerConfig::new(WorkerKind::Kvm, "z1", "h1");
        worker.short_concurrency = 256;
        let handlers = Handlers::default().on::<Rest, _, _>(async |_, _, ()| Ok(()));
        let courier = connect("worker").await?;
        tasks.push(tokio::spawn(Runtime::run(worker, courier, handlers, Arc::new(HostOpener), stop.clone())));
        let control = connect("control").await?;
        let bench = Bench { database, control, counted, stop, tasks };
        bench.until(async || Ok(worker::Entity::find().count(bench.database.read()).await? == 1)).await.context("no worker")?;
        Ok(bench)
    }

    async fn until(&self, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let limit = Instant::now() + PATIENCE;
        while !condition().await? {
            ensure!(Instant::now() < limit, "not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn reading(&self, services: Option<&Services>) -> Result<Reading> {
        let mut reading = Reading {
            own_cpu_s: usage::own_cpu_s()?,
            messages: self.counted.messages.load(Relaxed),
            quorum: self.counted.quorum.load(Relaxed),
            ..Reading::default()
        };
        if let Some(services) = services {
            reading.postgres_cpu_s = usage::service_cpu_s(&services.dir, "postgres")?;
            reading.rabbitmq_cpu_s = usage::service_cpu_s(&services.dir, "rabbitmq")?;
            let sql =
                "SELECT sum(xact_commit)::bigint AS commits, (pg_current_wal_lsn() - '0/0')::bigint AS wal FROM pg_stat_database";
            let db = self.database.read();
            let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?.context("a row")?;
            (reading.commits, reading.wal_bytes) = (row.try_get("", "commits")?, row.try_get("", "wal")?);
        }
        Ok(reading)
    }

    fn command(&self) -> Parcel {
        let properties = Properties { message_id: Some(unique("bench")), persistent: true, ..Properties::default() };
        Parcel {
            exchange: names::COMMANDS.into(),
            routing_key: "idle".into(),
            mandatory: true,
            properties,
            body: Bytes::from_static(b"{\"zone\":\"z1\"}"),
        }
    }

    /// Milliseconds from a submission to the event that says Ready, one at a time.
    pub(super) async fn alone(&self, count: usize) -> Result<Vec<f64>> {
        let took = self.one_by_one(count).await?;
        Ok(took.into_iter().map(|(from, to)| (to - from).as_secs_f64() * 1000.0).collect())
    }

    /// When each was submitted, and when the event that says Ready had arrived; the next one is submitted then.
    pub(super) async fn one_by_one(&self, count: usize) -> Result<Vec<(Instant, Instant)>> {
        let (name, routing_keys) = (unique("events"), vec!["idle.ready".into()]);
        let queue = Queue::Own { name: name.clone(), exchange: names::EVENTS.into(), routing_keys };
        self.control.declare(&[queue]).await?;
        let mut events = self.control.consume(&name, 100).await?;
        let mut took = vec![];
        for _ in 0..count {
            let (started, asked) = (Instant::now(), uuid::Uuid::now_v7());
            let ready = async {
                loop {
                    let event = events.next().await.context("the courier was closed")?;
                    let about: CloudEvent = serde_json::from_slice(&event.parcel.body)?;
                    event.receipt.ack();
                    // Ids sort by time: events of what was asked for earlier may still come.
                    if about.data.operation.0 > asked {
                        return anyhow::Ok(Instant::now());
                    }
                }
            };
            let publish = self.control.publish(vec![self.command()]);
            let (sent, ready) = tokio::join!(publish, tokio::time::timeout(PATIENCE, ready));
            ensure!(sent == [Ok(())], "a command was not confirmed: {sent:?}");
            took.push((started, ready.context("no event")??));
        }
        Ok(took)
    }

    /// Submits them all at once; milliseconds of each from the first submission until it is Ready.
    pub(super) async fn submit_and_wait(&self, count: usize) -> Result<Vec<f64>> {
        let started = longshore_engine::database::now(self.database.read()).await?;
        // Ids sort by the time of their making, so that nothing older is looked at.
        let older = uuid::Uuid::from_u128(u128::try_from(started.0 / 1000 - 1000)? << 80);
        let ready = || {
            operation::Entity::find()
                .filter(operation::Column::State.eq("ready"))
                .filter(operation::Column::Id.gt(older))
                .filter(operation::Column::CreatedAt.gte(started.0))
        };
        let sent = self.control.publish((0..count).map(|_| self.command()).collect()).await;
        ensure!(sent.iter().all(Result::is_ok), "a command was not confirmed");
        // Seldom: counting thousands of rows is work for the database, too. When each was Ready is in its row.
        let limit = Instant::now() + PATIENCE;
        while (ready().count(self.database.read()).await? as usize) < count {
            ensure!(Instant::now() < limit, "not all are Ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let ends: Vec<i64> =
            ready().select_only().column(operation::Column::UpdatedAt).into_tuple().all(self.database.read()).await?;
        Ok(ends.into_iter().map(|it| (it - started.0) as f64 / 1000.0).collect())
    }

    pub(super) async fn end(self) -> Result<()> {
        self.stop.cancel();
        for task in self.tasks {
            task.await??;
        }
        self.control.close().await;
        Ok(())
    }
}

/// The value that this part of all are below.
pub(super) fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(f64::NAN)
}
