//! Bad input gets its own fault and changes nothing; damage is found and never becomes bytes of a volume.

use crate::{
    held_pool::{Gate, Holding},
    meddler::{Failing, Meddler},
    rig::{Options, Parts, Rig, backup_body, content, copy_body, make_volume, noise, restore_body},
};
use longshore_courier::{Properties, embedded::Mischief};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    site::{Pool, Store},
    step::Way,
};
use longshore_workers::{
    hypervisor::Hypervisor,
    opener::HostOpener,
    reach::Opener,
    steps::OpenStore,
    store::{
        PutMode,
        flaky::{Flaky, Harm, Rule, Verb},
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

async fn refused(rig: &Rig, kind: &str, body: Value) -> String {
    let reply = rig.submit(kind, body).await;
    assert!(!reply.accepted && reply.operation.is_none(), "{kind} was accepted");
    reply.fault.unwrap().code
}

pub(crate) async fn every_bad_command_has_a_fault_of_its_own_and_changes_nothing(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    let with = |name: &str, value: Value| {
        let mut body = backup_body("disk", None);
        body[name] = value;
        body
    };
    for (kind, body, code) in [
        ("backup-snapshots", backup_body("disk", None), "command.unknown-kind"),
        ("backup-snapshot", json!({}), "command.malformed"),
        ("backup-snapshot", with("surprise", json!(1)), "command.malformed"),
        ("backup-snapshot", with("zone", json!("z9")), "zone.unknown"),
        ("backup-snapshot", with("pool", json!("slow")), "pool.unknown"),
        ("backup-snapshot", with("store", json!("fast")), "store.unknown"),
        ("backup-snapshot", with("volume", json!("../etc/passwd")), "volume.name-invalid"),
        ("backup-snapshot", with("volume", json!("..")), "volume.name-invalid"),
        ("backup-snapshot", with("snapshot", json!("a/b")), "volume.name-invalid"),
        ("backup-snapshot", with("path", json!("staged")), "path.unavailable"),
        ("backup-snapshot", with("base", json!(OperationId::new())), "operation.unknown"),
        ("copy-object", copy_body(OperationId::new(), "main"), "operation.unknown"),
        ("copy-object", copy_body(OperationId::new(), "fast"), "store.unknown"),
        ("copy-object", json!({"from": OperationId::new(), "store": "main", "zone": "z9"}), "zone.unknown"),
        ("copy-object", json!({"from": OperationId::new()}), "command.malformed"),
        ("create-volume", restore_body(OperationId::new(), "new", "qcow2"), "operation.unknown"),
        ("create-volume", restore_body(OperationId::new(), "a\\b", "qcow2"), "volume.name-invalid"),
        ("create-volume", restore_body(OperationId::new(), "new.raw", "qcow2"), "volume.name-invalid"),
        ("create-volume", restore_body(OperationId::new(), "new.qcow2", "raw"), "volume.name-invalid"),
        ("verify-object", json!({"object": OperationId::new()}), "operation.unknown"),
        ("cancel", json!({"operation": OperationId::new()}), "operation.unknown"),
        ("destroy", json!({"operation": "x"}), "command.malformed"),
        ("destroy", json!({"operation": OperationId::new(), "force": true}), "command.malformed"),
        ("abandon", json!({"operation": OperationId::new()}), "operation.unknown"),
    ] {
        assert_eq!(refused(&rig, kind, body.clone()).await, code, "{kind} {body}");
    }
    for body in ["{", "[]", r#"{"a": "\u0000"}"#, r#"{"volume": "a", "volume": "b"}"#, r#"{"deadline_s": 1e400}"#] {
        let properties = Properties { message_id: Some("m".into()), ..Properties::default() };
        let reply = rig.send("backup-snapshot", body, properties).await;
        assert_eq!(reply["fault"]["code"], "command.malformed", "{body}");
    }
    let reply = rig.send("backup-snapshot", "{}", Properties::default()).await;
    assert_eq!(reply["fault"]["code"], "command.malformed", "no message id");
    let reply = rig.send("backup-snapshot", " ".repeat((1 << 20) + 1), Properties::default()).await;
    assert_eq!(reply["fault"]["code"], "command.too-large");
    assert_eq!(rig.keys().await.into_keys().collect::<Vec<_>>(), ["store.json"]);
    rig.assert_clean().await;
    rig.end().await
}

/// Submits, and waits for the failure.
async fn fails(rig: &Rig, kind: &str, body: Value) -> String {
    let id = rig.accepted(kind, body).await;
    rig.in_state(id, "failed").await.fault.unwrap().code
}

pub(crate) async fn a_missing_volume_or_snapshot_or_a_bad_image_fails_and_leaves_nothing(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("nothing", None)).await, "volume.missing");
    make_volume(&rig.volume("disk.qcow2"), "qcow2", &noise(1, 1 << 20));
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("disk.qcow2", Some("s1"))).await, "volume.missing");
    std::fs::write(rig.volume("evil.qcow2"), b"QFI\xfb\0\0\0\x03 and nothing that makes sense").unwrap();
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("evil.qcow2", None)).await, "image.invalid");
    let overlay = rig.volume("overlay.qcow2");
    crate::rig::tool(
        "qemu-img",
        &["create", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", "-u", overlay.to_str().unwrap(), "1M"],
    );
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("overlay.qcow2", None)).await, "image.invalid");
    assert_eq!(rig.keys().await.into_keys().filter(|it| !it.contains("aborted")).collect::<Vec<_>>(), ["store.json"]);
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_volume_of_that_name_is_never_replaced(parts: Parts) -> Mischief {
    let meddler = Meddler::new();
    let rig = Rig::with(Options { between: Some(meddler.clone()), ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let backup = rig.backup("disk", None).await;
    std::fs::write(rig.volume("mine"), b"precious").unwrap();
    assert_eq!(fails(&rig, "create-volume", restore_body(backup.id, "mine", "qcow2")).await, "volume.exists");
    assert_eq!(std::fs::read(rig.volume("mine")).unwrap(), b"precious");
    // It looks before it fetches anything: that the object's root is gone isn't even seen.
    let root = rig.keys().await.into_keys().find(|it| it.ends_with(".manifest")).unwrap();
    let (there, away) = (rig.dir.path().join("store").join(&root), rig.dir.path().join("root"));
    std::fs::rename(&there, &away).unwrap();
    assert_eq!(fails(&rig, "create-volume", restore_body(backup.id, "mine", "qcow2")).await, "volume.exists");
    assert_eq!(fails(&rig, "create-volume", restore_body(backup.id, "free", "qcow2")).await, "object.missing");
    std::fs::rename(&away, &there).unwrap();
    // While one makes it, another is told; afterwards it is there.
    meddler.hold("volume.write", Way::Do);
    let first = rig.accepted("create-volume", restore_body(backup.id, "new", "qcow2")).await;
    meddler.reached().await;
    assert_eq!(refused(&rig, "create-volume", restore_body(backup.id, "new", "raw")).await, "volume.claimed");
    meddler.let_go();
    rig.in_state(first, "ready").await;
    assert_eq!(fails(&rig, "create-volume", restore_body(backup.id, "new", "raw")).await, "volume.exists");
    assert!(content(&rig.volume("new"), "qcow2") == noise(1, 1 << 20));
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn an_object_without_its_marker_or_with_the_one_against_it_is_of_no_use(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let backup = rig.backup("disk", None).await;
    let folder = rig.dir.path().join("store/objects").join(backup.id.to_string());
    for (name, expected) in [("aborted", "object.corrupt"), ("ready", "object.missing")] {
        match name {
            "aborted" => std::fs::write(folder.join(name), b"{}").unwrap(),
            _ => std::fs::rename(folder.join(name), rig.dir.path().join(name)).unwrap(),
        }
        assert_eq!(fails(&rig, "verify-object", json!({"object": backup.id})).await, expected);
        assert_eq!(fails(&rig, "create-volume", restore_body(backup.id, "new", "raw")).await, expected);
        let mut body = backup_body("disk", None);
        body["base"] = json!(backup.id);
        let full = rig.ready("backup-snapshot", body).await;
        let output = full.output.unwrap();
        assert_eq!(output["reused"], 0, "{output}");
        assert!(output["because"].as_str().unwrap().contains(name), "{output}");
        match name {
            "aborted" => std::fs::remove_file(folder.join(name)).unwrap(),
            _ => std::fs::rename(rig.dir.path().join(name), folder.join(name)).unwrap(),
        }
    }
    rig.ready("verify-object", json!({"object": backup.id})).await;
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_flipped_bit_or_a_cut_object_is_found_and_never_becomes_a_volume(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 3 << 20));
    let backup = rig.backup("disk", None).await;
    let keys: Vec<_> =
        rig.keys().await.into_iter().filter(|(key, _)| key.starts_with("packs/") || key.ends_with(".manifest")).collect();
    assert!(keys.len() >= 2, "{keys:?}");
    for (key, bytes) in keys {
        let whole = rig.store.get(&key, 0..bytes).await.unwrap();
        let mut flipped = whole.to_vec();
        flipped[bytes as usize / 2] ^= 1;
        for (n, bad) in [flipped, whole[..whole.len() / 2].to_vec()].into_iter().enumerate() {
            rig.store.put(&key, bad.into(), PutMode::Replace).await.unwrap();
            let code = fails(&rig, "verify-object", json!({"object": backup.id})).await;
            assert!(["object.corrupt", "object.missing"].contains(&code.as_str()), "{key}: {code}");
            let code = fails(&rig, "create-volume", restore_body(backup.id, &format!("bad{n}"), "raw")).await;
            assert!(["object.corrupt", "object.missing"].contains(&code.as_str()), "{key}: {code}");
            assert!(!rig.volume(&format!("bad{n}")).exists());
        }
        rig.store.put(&key, whole, PutMode::Replace).await.unwrap();
    }
    rig.ready("verify-object", json!({"object": backup.id})).await;
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_full_store_refuses_or_lets_wait_and_the_waiting_go_on_when_there_is_room(parts: Parts) -> Mischief {
    let options = Options { store_capacity: "8 MiB", ..Options::new(parts) };
    let rig = Rig::with(options).await;
    make_volume(&rig.volume("one"), "raw", &noise(1, 5 << 20));
    make_volume(&rig.volume("two"), "raw", &noise(2, 5 << 20));
    make_volume(&rig.volume("giant"), "raw", &noise(3, 20 << 20));
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("giant", None)).await, "store.full");
    let one = rig.backup("one", None).await;
    let mut body = backup_body("two", None);
    body["when_full"] = "refuse".into();
    assert_eq!(fails(&rig, "backup-snapshot", body).await, "store.full");
    let waits = rig.accepted("backup-snapshot", backup_body("two", None)).await;
    let view = rig
        .until("it waits", async || {
            let view = rig.show(waits).await;
            view.waiting_for.is_some().then_some(view)
        })
        .await;
    assert_eq!(view.state, "allocated");
    let told = view.waiting_for.unwrap();
    assert!(told.starts_with("store main has ") && told.contains(" left of 8 MiB; ") && told.ends_with(" needed"), "{told}");
    // What the next one is told changes with what comes before it.
    make_volume(&rig.volume("three"), "raw", &noise(4, 5 << 20));
    let last = rig.accepted("backup-snapshot", backup_body("three", None)).await;
    let waiting_for = async |said: &str| {
        rig.until(said, async || rig.show(last).await.waiting_for.filter(|it| it.ends_with(said)).map(drop)).await;
    };
    waiting_for("needed; 1 operation waits before this one").await;
    rig.submit("cancel", json!({"operation": waits})).await;
    waiting_for("needed").await;
    let waits = last;
    let cancelled =
        rig.accepted("backup-snapshot", json!({"zone": "z1", "pool": "fast", "volume": "giant", "store": "main"})).await;
    rig.in_state(cancelled, "failed").await;
    rig.destroyed(one.id).await;
    rig.in_state(waits, "ready").await;
    rig.assert_clean().await;
    rig.end().await
}

/// An image that is open stays readable without its name. Not in the contract: no message may be lost, as a second attempt
/// wouldn't find the volume, and what it is about is between a worker and its host.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_vanishes_while_it_is_copied_is_copied_whole() {
    let gate = Arc::new(Gate::default());
    let mut options = Options { opener: Some(Arc::new(Holding(gate.clone()))), calm: true, ..Options::new(Parts::Embedded) };
    // No second attempt, which wouldn't find it.
    options.config.lease_s = 60;
    let rig = Rig::with(options).await;
    let bytes = noise(1, 40 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    gate.reached().await;
    rig.until("a pack is stored", async || rig.keys().await.keys().any(|it| it.starts_with("packs/")).then_some(())).await;
    std::fs::remove_file(rig.volume("disk")).unwrap();
    gate.open();
    rig.in_state(id, "ready").await;
    rig.restore(id, "new", "raw").await;
    assert!(content(&rig.volume("new"), "raw") == bytes);
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("disk", None)).await, "volume.missing", "the next one is told");
    rig.assert_clean().await;
    rig.end().await;
}

pub(crate) async fn a_volume_that_vanishes_between_two_attempts_fails_its_copy_and_nothing_stays_stored(
    parts: Parts,
) -> Mischief {
    let meddler = Meddler::new();
    let fault = Fault::transient(code::STORE_UNAVAILABLE, "the test's network is away");
    *meddler.fails.lock().unwrap() = Some(Failing { step: "object.copy".into(), way: Way::Do, after: true, fault });
    let rig = Rig::with(Options { between: Some(meddler), ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 2 << 20));
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    rig.until("a pack is stored", async || rig.keys().await.keys().any(|it| it.starts_with("packs/")).then_some(())).await;
    std::fs::remove_file(rig.volume("disk")).unwrap();
    assert_eq!(rig.in_state(id, "failed").await.fault.unwrap().code, "volume.missing");
    assert_eq!(fails(&rig, "backup-snapshot", backup_body("disk", None)).await, "volume.missing", "the next one is told");
    assert_eq!(rig.keys().await.into_keys().filter(|it| !it.contains("aborted")).collect::<Vec<_>>(), ["store.json"]);
    rig.assert_clean().await;
    rig.end().await
}

/// Opens stores that exchange one bit of each pack that they are given, and say nothing.
struct Damaging;

#[async_trait::async_trait]
impl Opener for Damaging {
    async fn pool(&self, pool: &Pool) -> Result<Arc<dyn Hypervisor>, Fault> {
        HostOpener.pool(pool).await
    }

    async fn store(&self, store: &Store, incarnation: uuid::Uuid) -> Result<OpenStore, Fault> {
        let opened = HostOpener.store(store, incarnation).await?;
        assert!(!opened.checks_bodies, "a directory checks nothing");
        let rule = Rule::always(Verb::Put, "packs/", Harm::Flip(80_000));
        Ok(OpenStore { store: Arc::new(Flaky::scripted(opened.store, vec![rule])), ..opened })
    }
}

pub(crate) async fn a_store_that_damages_what_it_is_given_and_checks_nothing_gets_no_ready_object(parts: Parts) -> Mischief {
    let rig = Rig::with(Options { opener: Some(Arc::new(Damaging)), ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    for time in ["the first time", "the second time"] {
        assert_eq!(fails(&rig, "backup-snapshot", backup_body("disk", None)).await, "object.corrupt", "{time}");
        let left = rig.keys().await.into_keys().find(|key| key.ends_with("/ready") || key.starts_with("packs/"));
        assert_eq!(left, None, "{time}");
    }
    rig.assert_clean().await;
    rig.end().await
}
