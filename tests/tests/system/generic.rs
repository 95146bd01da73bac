//! Three tests that every operation gets: each step done twice leaves what once leaves; a fault at every step
//! unwinds to a clean slate; so does unwinding twice.

use crate::rig::{Options, Parts, Rig, backup_body, content, files, make_volume, noise, restore_body};
use futures::future::BoxFuture;
use longshore_engine::operation as kinds;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::{Attempt, Way},
};
use longshore_workers::steps::Between;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// What is done to the steps of one operation.
#[derive(Default)]
struct Meddler {
    /// Every handler runs twice.
    twice: AtomicBool,
    /// This step, after it took effect or instead of it, fails for good.
    fails: Mutex<Option<(String, bool)>>,
    /// Steps that were done, in their order.
    seen: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Between for Meddler {
    async fn run(
        &self,
        name: &str,
        attempt: Attempt,
        handler: &(dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync),
    ) -> Result<Value, Fault> {
        self.seen.lock().unwrap().push(name.to_owned());
        let fails = self.fails.lock().unwrap().clone().filter(|(step, _)| step == name && attempt.way == Way::Do);
        if let Some((_, false)) = fails {
            return Err(Fault::permanent(code::INTERNAL, "the test lets it fail before it begins"));
        }
        if self.twice.load(SeqCst) {
            handler().await?;
        }
        let done = handler().await;
        match fails {
            Some(_) => Err(Fault::permanent(code::INTERNAL, "the test lets it fail after it was done")),
            None => done,
        }
    }
}

async fn rig(meddler: &Arc<Meddler>) -> Rig {
    // Long enough that no sweep comes between.
    Rig::with(Options { grace_s: 3600, between: Some(meddler.clone()), ..Options::new(Parts::Embedded) }).await
}

/// Every operation, on a rig with one volume, `disk.qcow2`, and one backup of it.
fn operations(backup: OperationId) -> Vec<(&'static str, Value)> {
    let operations = vec![
        ("backup-snapshot", backup_body("disk.qcow2", None)),
        ("create-volume", restore_body(backup, "new", "qcow2")),
        ("sweep-store", json!({"store": "main"})),
        ("verify-object", json!({"object": backup})),
    ];
    let names: BTreeSet<_> = operations.iter().map(|it| it.0).collect();
    assert_eq!(names, kinds::ALL.iter().map(|it| it.name).collect(), "an operation has no body here");
    operations
}

/// What is outside: files of the pool, and keys of the store that aren't markers of dead operations.
async fn slate(rig: &Rig) -> (Vec<String>, Vec<String>) {
    let mut pool = files(&rig.dir.path().join("pool"));
    pool.sort();
    let store = rig.keys().await.into_keys().filter(|it| !it.ends_with("/aborted")).collect();
    (pool, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_done_twice_leaves_what_once_leaves() {
    let meddler = Arc::new(Meddler::default());
    let rig = rig(&meddler).await;
    let bytes = noise(1, 3 << 20);
    make_volume(&rig.volume("disk.qcow2"), "qcow2", &bytes);
    let backup = rig.backup("disk.qcow2", None).await.id;
    meddler.twice.store(true, SeqCst);
    for (kind, body) in operations(backup) {
        let made = rig.ready(kind, body).await;
        if kind == "create-volume" {
            assert!(content(&rig.volume("new"), "qcow2") == bytes);
            rig.destroyed(made.id).await;
            assert!(!rig.volume("new").exists());
        } else if kind == "backup-snapshot" {
            rig.restore(made.id, "copy", "raw").await;
            assert!(content(&rig.volume("copy"), "raw") == bytes);
        }
    }
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_every_step_unwinds_to_a_clean_slate_and_so_does_unwinding_twice() {
    let meddler = Arc::new(Meddler::default());
    let rig = rig(&meddler).await;
    make_volume(&rig.volume("disk.qcow2"), "qcow2", &noise(1, 3 << 20));
    let backup = rig.backup("disk.qcow2", None).await.id;
    for (kind, body) in operations(backup) {
        meddler.seen.lock().unwrap().clear();
        let made = rig.ready(kind, body.clone()).await;
        let steps = std::mem::take(&mut *meddler.seen.lock().unwrap());
        if kind != "sweep-store" && kind != "verify-object" {
            rig.destroyed(made.id).await;
        }
        let before = slate(&rig).await;
        for (step, done) in steps.iter().flat_map(|step| [(step, false), (step, true)]) {
            *meddler.fails.lock().unwrap() = Some((step.clone(), done));
            meddler.twice.store(done, SeqCst);
            // A different content each time, so that something is really stored.
            if kind == "backup-snapshot" {
                std::fs::remove_file(rig.volume("disk.qcow2")).unwrap();
                make_volume(&rig.volume("disk.qcow2"), "qcow2", &noise(rand::random(), 3 << 20));
            }
            let id = rig.accepted(kind, body.clone()).await;
            let committed = step == "object.commit" && done;
            let ended = rig.in_state(id, if committed { "ready" } else { "failed" }).await;
            if committed {
                // The probe found it: it is finished, not undone.
                rig.destroyed(id).await;
            } else {
                assert_eq!(ended.fault.unwrap().code, code::INTERNAL, "{kind} at {step}");
                let packs_of_destroyed = |it: &String| it.starts_with("packs/") && !it.contains(&id.to_string());
                let (pool, store) = slate(&rig).await;
                assert_eq!(pool, before.0, "{kind} at {step}, done: {done}");
                let left: Vec<_> = store.iter().filter(|it| !before.1.contains(it) && !packs_of_destroyed(it)).collect();
                assert!(left.is_empty(), "{kind} at {step}, done: {done}: {left:?}");
            }
            *meddler.fails.lock().unwrap() = None;
            meddler.twice.store(false, SeqCst);
        }
    }
    rig.assert_clean().await;
    rig.end().await;
}
