//! Cancel, destroy and abandon in every state, several engines on one database, and the random volumes.

use crate::rig::{Options, Parts, Rig, backup_body, content, make_volume, noise, restore_body, tool};
use futures::future::BoxFuture;
use longshore_schema::{
    fault::{Fault, code},
    step::{Attempt, Way},
    tables::operation,
};
use longshore_workers::steps::Between;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::sync::{Notify, Semaphore};

/// Holds one step back, before it begins, until it is let go.
struct Gate {
    step: Mutex<Option<(&'static str, Way)>>,
    reached: Notify,
    open: Semaphore,
    fails: Mutex<Option<Fault>>,
}

#[async_trait::async_trait]
impl Between for Gate {
    async fn run(
        &self,
        name: &str,
        attempt: Attempt,
        handler: &(dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync),
    ) -> Result<Value, Fault> {
        if *self.step.lock().unwrap() == Some((name, attempt.way)).map(|(name, way)| (leaked(name), way)) {
            self.reached.notify_one();
            self.open.acquire().await.unwrap().forget();
            if let Some(fault) = self.fails.lock().unwrap().clone() {
                return Err(fault);
            }
        }
        handler().await
    }
}

/// Step names are static in the schema.
fn leaked(name: &str) -> &'static str {
    longshore_schema::steps::NAMES.iter().find(|it| **it == name).copied().unwrap_or("")
}

async fn gated(step: &'static str, way: Way) -> (Arc<Gate>, Rig) {
    let gate = Arc::new(Gate {
        step: Mutex::new(Some((step, way))),
        reached: Notify::new(),
        open: Semaphore::new(0),
        fails: Mutex::new(None),
    });
    let rig = Rig::with(Options { between: Some(gate.clone()), ..Options::new(Parts::Embedded) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 2 << 20));
    (gate, rig)
}

async fn cancel_at(step: &'static str, end: &str) {
    let (gate, rig) = gated(step, Way::Do).await;
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    gate.reached.notified().await;
    let reply = rig.submit("cancel", json!({"operation": id})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    gate.step.lock().unwrap().take();
    gate.open.add_permits(100);
    let ended = rig.in_state(id, end).await;
    assert_eq!(ended.fault.map(|it| it.code), (end == "failed").then(|| code::CANCELLED.to_owned()));
    assert_eq!(rig.keys().await.keys().filter(|it| it.starts_with("packs/")).count(), 0, "packs are left");
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_measuring_fails_at_once() {
    cancel_at("volume.measure", "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_copying_stops_the_worker_and_undoes() {
    cancel_at("object.copy", "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_committing_is_decided_by_the_probe() {
    cancel_at("object.commit", "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_a_ready_object_is_too_late() {
    let rig = Rig::new(Parts::Embedded).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let backup = rig.backup("disk", None).await;
    let reply = rig.submit("cancel", json!({"operation": backup.id})).await;
    assert_eq!(reply.fault.unwrap().code, "cancel.too-late");
    let reply = rig.submit("abandon", json!({"operation": backup.id, "reason": "why not"})).await;
    assert_eq!(reply.fault.unwrap().code, "operation.wrong-state");
    rig.destroyed(backup.id).await;
    let again = rig.submit("destroy", json!({"operation": backup.id})).await;
    assert!(again.accepted, "asking again has no effect");
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_object_is_destroyed_only_when_the_last_holder_is_done() {
    let (gate, rig) = gated("volume.write", Way::Do).await;
    let backup = rig.backup("disk", None).await;
    let user = rig.accepted("create-volume", restore_body(backup.id, "new", "qcow2")).await;
    gate.reached.notified().await;
    let reply = rig.submit("destroy", json!({"operation": backup.id})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    let late = rig.submit("create-volume", restore_body(backup.id, "late", "qcow2")).await;
    assert!(!late.accepted, "nothing new may hold it");
    let row = operation::Entity::find_by_id(backup.id.0).one(rig.database.read()).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.destroy_requested), ("ready", true));
    gate.step.lock().unwrap().take();
    gate.open.add_permits(100);
    rig.in_state(user, "ready").await;
    rig.in_state(backup.id, "destroyed").await;
    assert!(content(&rig.volume("new"), "qcow2") == noise(1, 2 << 20));
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_backups_of_one_volume_at_once_the_second_is_told_and_goes_through_later() {
    let (gate, rig) = gated("object.copy", Way::Do).await;
    let first = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    gate.reached.notified().await;
    let second = rig.submit("backup-snapshot", backup_body("disk", None)).await;
    assert_eq!(second.fault.map(|it| it.code), Some("volume.claimed".to_owned()));
    gate.step.lock().unwrap().take();
    gate.open.add_permits(100);
    rig.in_state(first, "ready").await;
    let second = rig.backup("disk", None).await;
    assert_eq!(second.output.unwrap()["base"], json!(first));
    for (id, name) in [(first, "one"), (second.id, "two")] {
        rig.restore(id, name, "raw").await;
        assert!(content(&rig.volume(name), "raw") == noise(1, 2 << 20));
    }
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_undo_stays_booked_as_remains() {
    let (gate, rig) = gated("volume.remove", Way::Undo).await;
    *gate.fails.lock().unwrap() = Some(Fault::transient(code::POOL_UNREACHABLE, "the test's pool is away"));
    gate.open.add_permits(100_000);
    let backup = rig.backup("disk", None).await;
    let made = rig.restore(backup.id, "new", "raw").await;
    assert!(rig.submit("destroy", json!({"operation": made.id})).await.accepted);
    rig.until("it asks for attention", async || rig.show(made.id).await.needs_attention.then_some(())).await;
    let reply = rig.submit("abandon", json!({"operation": made.id, "reason": "the pool burned"})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    let ended = rig.in_state(made.id, "destroyed").await;
    assert_eq!(ended.fault.unwrap().code, code::ABANDONED);
    let pools = longshore_engine::audit::places(rig.database.read(), "pool").await.unwrap();
    assert!(pools[0].used > 2 << 20, "what may remain stays booked");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_on_one_database_do_everything_once() {
    let rig = Rig::with(Options { engines: 2, ..Options::new(Parts::Services) }).await;
    let bytes = noise(1, 2 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let backup = rig.backup("disk", None).await;
    let mut made = vec![];
    for n in 0..12 {
        made.push((n, rig.accepted("create-volume", restore_body(backup.id, &format!("v{n}"), "raw")).await));
    }
    for (n, id) in made {
        rig.in_state(id, "ready").await;
        assert!(content(&rig.volume(&format!("v{n}")), "raw") == bytes);
    }
    rig.assert_clean().await;
    rig.end().await;
}

/// A volume with its reference model.
struct Model {
    bytes: Vec<u8>,
    rng: StdRng,
    told: Vec<String>,
}

impl Model {
    /// Writes, zeros, discards, or grows, by QEMU's own tools.
    fn change(&mut self, path: &Path, format: &str) {
        let path = path.to_str().unwrap();
        for _ in 0..self.rng.random_range(1..8) {
            let size = self.bytes.len();
            let from = self.rng.random_range(0..size / 512) * 512;
            let length = (self.rng.random_range(1..2000) * 512).min(size - from);
            let fill: u8 = self.rng.random();
            let (command, fill) = match self.rng.random_range(0..4) {
                0 => (format!("write -z {from} {length}"), Some(0)),
                1 => (format!("discard {from} {length}"), None),
                _ => (format!("write -P {fill} {from} {length}"), Some(fill)),
            };
            tool("qemu-io", &["-f", format, "-c", &command, path]);
            match fill {
                Some(fill) => self.bytes[from..from + length].fill(fill),
                // What a discarded range reads as is the format's affair.
                None => self.bytes = content(Path::new(path), format),
            }
            self.told.push(command);
        }
        if self.rng.random_range(0..4) == 0 {
            let grown = self.bytes.len() + self.rng.random_range(1..20) * 65_536;
            tool("qemu-img", &["resize", "-f", format, path, &grown.to_string()]);
            self.bytes.resize(grown, 0);
            self.told.push(format!("resize {grown}"));
        }
    }
}

/// Prints its seed; `SEED=n` runs that one.
async fn random_volumes(parts: Parts, format: &str, rounds: usize) {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |it| it.parse().unwrap());
    println!("SEED={seed}");
    let rig = Rig::new(parts).await;
    let mut model = Model { bytes: noise(seed, 4 << 20), rng: StdRng::seed_from_u64(seed), told: vec![] };
    make_volume(&rig.volume("disk"), format, &model.bytes);
    let mut backups = vec![];
    for round in 0..rounds {
        model.change(&rig.volume("disk"), format);
        let snapshot = (format == "qcow2" && model.rng.random_bool(0.5)).then(|| format!("s{round}"));
        if let Some(snapshot) = &snapshot {
            tool("qemu-img", &["snapshot", "-c", snapshot, rig.volume("disk").to_str().unwrap()]);
        }
        let mut body = backup_body("disk", snapshot.as_deref());
        body["format"] = format.into();
        backups.push((rig.ready("backup-snapshot", body).await.id, model.bytes.clone()));
        if model.rng.random_bool(0.3) && backups.len() > 1 {
            let gone = model.rng.random_range(0..backups.len() - 1);
            rig.destroyed(backups.remove(gone).0).await;
        }
    }
    for (n, (id, bytes)) in backups.iter().enumerate() {
        let format = ["raw", "qcow2"][n % 2];
        rig.restore(*id, &format!("r{n}"), format).await;
        assert!(content(&rig.volume(&format!("r{n}")), format) == *bytes, "SEED={seed}: backup {n} of {:#?}", model.told);
    }
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_qcow2_volumes_equal_their_model_embedded() {
    random_volumes(Parts::Embedded, "qcow2", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_raw_volumes_equal_their_model_embedded() {
    random_volumes(Parts::Embedded, "raw", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_qcow2_volumes_equal_their_model_on_services() {
    random_volumes(Parts::Services, "qcow2", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_raw_volumes_equal_their_model_on_services() {
    random_volumes(Parts::Services, "raw", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_volumes_equal_their_model_in_s3_with_everything_else_embedded() {
    random_volumes(Parts::EmbeddedS3, "qcow2", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_volumes_equal_their_model_in_a_directory_with_servers_for_everything_else() {
    random_volumes(Parts::ServicesDirectory, "raw", 3).await;
}
