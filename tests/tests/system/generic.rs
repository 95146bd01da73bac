//! Three tests that every operation gets: each step done twice leaves what once leaves; a fault at every step
//! unwinds to a clean slate; so does unwinding twice. Each operation is given something to do, and what it did is looked
//! at from outside.

use crate::{
    meddler::{Failing, Meddler},
    rig::{Options, Parts, Rig, backup_body, content, copy_body, files, keys, make_volume, noise, restore_body},
};
use longshore_courier::embedded::Mischief;
use longshore_engine::{audit::OperationView, operation as kinds};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::Way,
    tables::pack,
};
use longshore_workers::store::PutMode;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, SystemTime},
};

/// Seconds that what nobody needs stays in the store.
const GRACE: u32 = 3600;
/// Bytes of the volume.
const SIZE: usize = 2 << 20;

/// A rig with two stores, one volume, `disk.qcow2`, and one backup of it in the first store.
struct Bench {
    meddler: Arc<Meddler>,
    rig: Rig,
    backup: OperationId,
    /// What the backup holds.
    bytes: Vec<u8>,
}

/// An operation, and what there is for it to do.
struct Job {
    kind: &'static str,
    body: Value,
    /// The volume's content.
    volume: Vec<u8>,
    /// Keys that a sweep must remove, and no others.
    litter: BTreeSet<String>,
}

/// What is outside: files of the pool, and keys of both stores with their lengths, but for markers of dead operations.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slate {
    pool: BTreeSet<String>,
    store: BTreeMap<String, u64>,
    other: BTreeMap<String, u64>,
}

impl Bench {
    async fn new(parts: Parts) -> Bench {
        let meddler = Meddler::new();
        let mut options = Options { grace_s: GRACE, between: Some(meddler.clone()), two: true, ..Options::new(parts) };
        // One period for ever: the engine sweeps by itself once, and never again.
        options.config.sweep_every_s = u32::MAX;
        // The engine's own commands are nobody's whom the site knows. Ours are the broker's user's, where there is a broker.
        options.users = "[[user]]\nname = \"longshore\"\ntenants = [\"t1\"]\n".into();
        let rig = Rig::with(options).await;
        let bytes = noise(1, SIZE);
        make_volume(&rig.volume("disk.qcow2"), "qcow2", &bytes);
        let backup = rig.backup("disk.qcow2", None).await.id;
        let bench = Bench { meddler, rig, backup, bytes };
        let litter = bench.litter().await;
        let gone = async || (!bench.rig.keys().await.keys().any(|key| litter.contains(key))).then_some(());
        bench.rig.until("the engine's own sweep", gone).await;
        bench
    }

    /// Every kind of operation, alphabetical.
    fn kinds() -> Vec<&'static str> {
        kinds::ALL.iter().map(|it| it.name).collect()
    }

    /// Prepares one.
    async fn job(&self, kind: &'static str) -> Job {
        let (mut volume, mut litter) = (self.bytes.clone(), BTreeSet::new());
        let body = match kind {
            "backup-snapshot" => {
                volume = self.rewrite();
                backup_body("disk.qcow2", None)
            }
            "copy-object" => copy_body(self.backup, "other"),
            "create-volume" => restore_body(self.backup, "new", "qcow2"),
            "sweep-store" => {
                litter = self.litter().await;
                json!({"store": "main"})
            }
            "verify-object" => json!({"object": self.backup}),
            other => panic!("{other} has no body here"),
        };
        Job { kind, body, volume, litter }
    }

    /// Another content each time, so that something is really stored.
    fn rewrite(&self) -> Vec<u8> {
        let bytes = noise(rand::random(), SIZE);
        std::fs::remove_file(self.rig.volume("disk.qcow2")).unwrap();
        make_volume(&self.rig.volume("disk.qcow2"), "qcow2", &bytes);
        bytes
    }

    /// Gives a sweep something of each sort, and beside it what it must leave. The keys that must go.
    async fn litter(&self) -> BTreeSet<String> {
        self.rewrite();
        let mut body = backup_body("disk.qcow2", None);
        body["base"] = "full".into();
        let dead = self.rig.ready("backup-snapshot", body).await.id;
        self.rig.destroyed(dead).await;
        let backup = self.backup;
        // From attempts that nobody waited for: of an object that is gone, and of one that is there.
        for key in [format!("packs/{dead}/98-0"), format!("objects/{dead}/98.manifest"), format!("packs/{backup}/98-0")] {
            self.put(&key).await;
        }
        let mut due = self.rig.keys().await;
        due.retain(|key, _| key.contains(&dead.to_string()) || *key == format!("packs/{backup}/98-0"));
        assert!(due.len() >= 5, "{due:?}");
        due.keys().for_each(|key| self.age(key));
        // What is young, what isn't known here, and what isn't Longshore's.
        self.put(&format!("packs/{dead}/99-0")).await;
        let stranger = format!("packs/{}/1-0", OperationId::new());
        self.put(&stranger).await;
        self.age(&stranger);
        self.put("packs/readme").await;
        self.age("packs/readme");
        let past = pack::Entity::update_many()
            .col_expr(pack::Column::NotBefore, Expr::value(0_i64))
            .filter(pack::Column::OperationId.eq(dead.0));
        let done = self.rig.database.transact(move |tx| Box::pin(async move { Ok(past.exec(tx).await?.rows_affected) }));
        assert!(done.await.unwrap() >= 2, "its packs were condemned");
        due.into_keys().collect()
    }

    async fn put(&self, key: &str) {
        self.rig.store.put(key, "left over".into(), PutMode::Replace).await.unwrap();
    }

    /// It was written before the grace.
    fn age(&self, key: &str) {
        let path: PathBuf = self.rig.dir.path().join("store").join(key);
        let then = SystemTime::now() - Duration::from_secs(2 * u64::from(GRACE));
        std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    async fn slate(&self) -> Slate {
        let (mut store, mut other) = (self.rig.keys().await, keys(self.rig.other()).await);
        for keys in [&mut store, &mut other] {
            keys.retain(|key, _| !key.ends_with("/aborted"));
        }
        Slate { pool: files(&self.rig.dir.path().join("pool")).into_iter().collect(), store, other }
    }

    /// It has done its work, on that slate; what it made is taken away again.
    async fn assert_done(&self, job: &Job, made: &OperationView, before: &Slate) {
        let rig = &self.rig;
        match job.kind {
            "backup-snapshot" | "copy-object" => {
                rig.restore(made.id, "copy", "raw").await;
                assert!(content(&rig.volume("copy"), "raw") == job.volume);
                std::fs::remove_file(rig.volume("copy")).unwrap();
                rig.destroyed(made.id).await;
            }
            "create-volume" => {
                assert!(content(&rig.volume("new"), "qcow2") == job.volume);
                rig.destroyed(made.id).await;
                assert_eq!(self.slate().await, *before);
            }
            "sweep-store" => {
                let mut wanted = before.clone();
                wanted.store.retain(|key, _| !job.litter.contains(key));
                assert_eq!(self.slate().await, wanted);
                let left = rig.keys().await;
                assert!(!job.litter.iter().any(|key| left.contains_key(key)), "{left:?}");
                let rows = pack::Entity::find().all(rig.database.read()).await.unwrap();
                let keys: BTreeSet<_> = rows.into_iter().map(|it| format!("packs/{}", it.id)).collect();
                assert!(keys.is_disjoint(&job.litter), "rows of what is gone: {keys:?}");
                assert_eq!(made.output.as_ref().unwrap()["foreign"], json!(["packs/readme"]));
                rig.assert_books().await;
            }
            "verify-object" => {
                let output = made.output.as_ref().unwrap();
                assert_eq!(output["virtual_size"], SIZE);
                assert_eq!(output["extents"], SIZE >> 16);
                self.assert_damage_is_found(job).await;
                assert_eq!(self.slate().await, *before);
            }
            other => panic!("{other} isn't looked at here"),
        }
    }

    /// One bit of the content is another for a while.
    async fn assert_damage_is_found(&self, job: &Job) {
        let mut packs = self.rig.keys().await;
        packs.retain(|key, _| key.starts_with(&format!("packs/{}/", self.backup)));
        let (key, length) = packs.into_iter().max_by_key(|it| it.1).unwrap();
        let whole = self.rig.store.get(&key, 0..length).await.unwrap();
        let mut damaged = whole.to_vec();
        damaged[length as usize / 2] ^= 1;
        self.rig.store.put(&key, damaged.into(), PutMode::Replace).await.unwrap();
        let id = self.rig.accepted(job.kind, job.body.clone()).await;
        assert_eq!(self.rig.in_state(id, "failed").await.fault.unwrap().code, code::OBJECT_CORRUPT);
        self.rig.store.put(&key, whole, PutMode::Replace).await.unwrap();
    }

    async fn end(self) -> Mischief {
        self.rig.assert_clean().await;
        self.rig.end().await
    }
}

pub(crate) async fn every_step_done_twice_leaves_what_once_leaves(parts: Parts) -> Mischief {
    let bench = Bench::new(parts).await;
    for kind in Bench::kinds() {
        let job = bench.job(kind).await;
        let before = bench.slate().await;
        bench.meddler.twice.store(true, SeqCst);
        let made = bench.rig.ready(kind, job.body.clone()).await;
        bench.assert_done(&job, &made, &before).await;
        bench.meddler.twice.store(false, SeqCst);
    }
    bench.end().await
}

pub(crate) async fn a_fault_at_every_step_unwinds_to_a_clean_slate_and_so_does_unwinding_twice(parts: Parts) -> Mischief {
    let bench = Bench::new(parts).await;
    for kind in Bench::kinds() {
        let job = bench.job(kind).await;
        let before = bench.slate().await;
        bench.meddler.seen.lock().unwrap().clear();
        let made = bench.rig.ready(kind, job.body.clone()).await;
        let steps: BTreeSet<_> = std::mem::take(&mut *bench.meddler.seen.lock().unwrap()).into_iter().collect();
        bench.assert_done(&job, &made, &before).await;
        for step in steps {
            for (after, twice) in [(false, false), (false, true), (true, false), (true, true)] {
                fails_at(&bench, kind, &step, after, twice).await;
            }
        }
    }
    bench.end().await
}

/// Runs one that fails for good at a step, before or after it took effect, with everything done once or twice.
async fn fails_at(bench: &Bench, kind: &'static str, step: &str, after: bool, twice: bool) {
    let job = bench.job(kind).await;
    let before = bench.slate().await;
    let what = format!("{kind} at {step}, after: {after}, twice: {twice}");
    let fault = Fault::permanent(code::INTERNAL, "the test lets it fail");
    *bench.meddler.fails.lock().unwrap() = Some(Failing { step: step.into(), way: Way::Do, after, fault });
    bench.meddler.twice.store(twice, SeqCst);
    let id = bench.rig.accepted(kind, job.body.clone()).await;
    if step == "object.commit" && after {
        // The probe found it: it is finished, not undone.
        let made = bench.rig.in_state(id, "ready").await;
        bench.assert_done(&job, &made, &before).await;
    } else {
        let failed = bench.rig.in_state(id, "failed").await;
        assert_eq!(failed.fault.unwrap().code, code::INTERNAL, "{what}");
        let mut wanted = before.clone();
        if step == "sweep.delete" && after {
            wanted.store.retain(|key, _| !job.litter.contains(key));
        }
        assert_eq!(bench.slate().await, wanted, "{what}");
    }
    *bench.meddler.fails.lock().unwrap() = None;
    bench.meddler.twice.store(false, SeqCst);
    if kind == "sweep-store" {
        // What it had begun is for the next one.
        let made = bench.rig.ready(kind, job.body.clone()).await;
        bench.assert_done(&job, &made, &before).await;
    }
}
