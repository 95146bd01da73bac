//! A database in memory with a site, workers and nothing else; emptied between schedules, since migrating a new
//! one takes longer than a schedule.

use super::{job::EXTENT, sqlite::Sqlite};
use anyhow::{Context, Result};
use longshore_engine::{
    config::Config,
    database::Database,
    journal::{self, Item},
    site,
};
use longshore_schema::{
    site::Site,
    wire::{Announce, Report, WorkerKind},
};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

/// When every schedule begins, microseconds.
pub(super) const START: i64 = 1_800_000_000_000_000;
/// The workers' ids.
pub(super) const WORKERS: [&str; 2] = ["w0", "w1"];
/// The stores' names: objects are backed up into the first one, and copied both ways.
pub(super) const STORES: [&str; 2] = ["main", "other"];
/// Seconds that a pack stays after its last use, and what nobody knows of.
pub(super) const GRACE_S: i64 = 120;
/// The same in half of all schedules: what is under way is soon old.
pub(super) const SHORT_GRACE_S: i64 = 2;

const SITE: &str = r#"
[[zone]]
name = "z1"
region = "r1"
[[store]]
name = "main"
region = "r1"
capacity = "1 GiB"
threshold = 1.0
grace_s = 120
extent_size = "64 KiB"
url = "file:///nowhere/store"
[[store]]
name = "other"
region = "r1"
capacity = "1 GiB"
threshold = 1.0
grace_s = 120
extent_size = "64 KiB"
url = "file:///nowhere/other"
[[pool]]
name = "fast"
zone = "z1"
hypervisor = "kvm"
url = "file:///nowhere/pool"
capacity = "1 GiB"
"#;

/// Tables that a schedule fills.
const FILLED: &[&str] = &[
    "anchor",
    "claim",
    "history",
    "hold",
    "message_seen",
    "operation",
    "outbox",
    "pack",
    "pack_use",
    "queue",
    "remains",
    "reservation",
    "step",
];

/// Where schedules run, one after the other.
pub struct Place {
    pub(super) database: Database,
    pub(super) sqlite: Sqlite,
    pub(super) clock: Arc<AtomicI64>,
}

impl Place {
    /// Makes the database.
    pub async fn new() -> Result<Place> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let path = folder.path().join("migrated.db");
        // Production's driver migrates; what it made is copied into memory.
        drop(Database::open(&format!("sqlite://{}", path.display())).await?);
        let sqlite = Sqlite::copy_of(&path)?;
        // History refuses to be deleted, and here it is deleted between schedules.
        sqlite.run(&["DROP TRIGGER history_guard_delete".into()])?;
        let clock = Arc::new(AtomicI64::new(START));
        let database = Database::simulated(sqlite.connection(), clock.clone());
        let db = database.read();
        let mut wanted = Site::parse(SITE).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        for store in &mut wanted.stores {
            store.extent_size = Some(longshore_schema::site::Size(EXTENT.into()));
        }
        let known = site::read(db).await?;
        site::apply(&database, &known, &wanted).await?.map_err(|fault| anyhow::anyhow!("{fault}"))?;
        for worker in WORKERS {
            let announce = Report::Announce(announcement(worker));
            let items = vec![Item::Report(Arc::new(announce))];
            journal::write(&database, &Arc::default(), Config::default(), items, vec![]).await?;
        }
        Ok(Place { database, sqlite, clock })
    }

    /// What the last schedule left.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Forgets the last schedule, and sets how much fits: into each store, and into the pool.
    pub(super) fn empty(&self, store: u64, pool: u64, grace_s: i64) -> Result<()> {
        self.clock.store(START, Relaxed);
        let mut statements = vec!["BEGIN".to_owned()];
        statements.extend(FILLED.iter().map(|it| format!("DELETE FROM {it}")));
        for (role, total) in [("store", store), ("pool", pool)] {
            statements.push(format!(
                "UPDATE place SET reserved = 0, used = 0, promised = 0, version = 0, total = {total} WHERE role = '{role}'"
            ));
        }
        let graced = format!("UPDATE place SET definition = json_set(definition, '$.grace_s', {grace_s}) WHERE role = 'store'");
        statements.push(graced);
        statements.push("COMMIT".to_owned());
        Ok(self.sqlite.run(&statements)?)
    }
}

pub(super) fn announcement(worker: &str) -> Announce {
    Announce {
        worker: worker.into(),
        incarnation: uuid::Uuid::nil(),
        kind: WorkerKind::Kvm,
        host: worker.into(),
        zone: "z1".into(),
        version: "0".into(),
        tools: Default::default(),
        pools: vec!["fast".into()],
        stores: STORES.map(str::to_owned).to_vec(),
        concurrency: 4,
        problems: Default::default(),
        leaving: false,
    }
}
