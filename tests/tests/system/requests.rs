//! Cancel, destroy and abandon in every state, and several engines on one database.

use crate::{
    golden,
    held_pool::{Gate, Holding},
    meddler::{Failing, Meddler},
    rig::{Options, Parts, Rig, backup_body, content, make_volume, noise, restore_body},
};
use longshore_courier::embedded::Mischief;
use longshore_schema::{
    fault::{Fault, code},
    step::Way,
    tables::operation,
};
use sea_orm::EntityTrait;
use serde_json::json;
use std::sync::Arc;

/// A rig with a volume `disk`, on which this step is held back.
async fn held(parts: Parts, step: &str, way: Way) -> (Arc<Meddler>, Rig) {
    let meddler = Meddler::new();
    meddler.hold(step, way);
    let rig = Rig::with(Options { between: Some(meddler.clone()), ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 2 << 20));
    (meddler, rig)
}

pub(crate) async fn a_cancel_while_measuring_fails_at_once(parts: Parts) -> Mischief {
    let (meddler, rig) = held(parts, "volume.measure", Way::Do).await;
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    meddler.reached().await;
    let reply = rig.submit("cancel", json!({"operation": id})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    meddler.let_go();
    let ended = rig.in_state(id, "failed").await;
    assert_eq!(ended.fault.map(|it| it.code), Some(code::CANCELLED.to_owned()));
    assert_eq!(rig.keys().await.keys().filter(|it| it.starts_with("packs/")).count(), 0, "packs are left");
    rig.assert_clean().await;
    rig.end().await
}

/// Longer than anything here takes: a lease, and with it every renewal, whose answer would stop the worker too.
const FOR_EVER_S: u32 = 3600;

/// The engine waits until the attempt is over, and nothing but its word ends it: nobody lets the copy go, and its lease outlasts
/// the test.
pub(crate) async fn a_cancel_while_copying_stops_the_worker_and_undoes(parts: Parts) -> Mischief {
    let gate = Arc::new(Gate::default());
    // A word that is lost is made up for by the next renewal, which doesn't come here.
    let mut options = Options { opener: Some(Arc::new(Holding(gate.clone()))), lose: 0.0, ..Options::new(parts) };
    options.config.lease_s = FOR_EVER_S;
    let rig = Rig::with(options).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 40 << 20));
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    gate.reached().await;
    let stored = async || rig.keys().await.keys().any(|it| it.starts_with("packs/"));
    rig.until("a pack is stored, and it reads", async || (stored().await && gate.waiting() > 0).then_some(())).await;
    let reply = rig.submit("cancel", json!({"operation": id})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    rig.until("nobody copies any more", async || (gate.waiting() == 0).then_some(())).await;
    assert_eq!(rig.in_state(id, "failed").await.fault.map(|it| it.code), Some(code::CANCELLED.to_owned()));
    gate.open();
    rig.assert_clean().await;
    assert_eq!(rig.keys().await.into_keys().filter(|it| !it.ends_with("/aborted")).collect::<Vec<_>>(), ["store.json"]);
    rig.end().await
}

pub(crate) async fn a_cancel_while_committing_is_decided_by_the_probe(parts: Parts) -> Mischief {
    let (meddler, rig) = held(parts, "object.commit", Way::Do).await;
    // Before it took effect: nobody lets it go, so that it never does.
    let nothing = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    meddler.reached().await;
    let reply = rig.submit("cancel", json!({"operation": nothing})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    assert_eq!(rig.in_state(nothing, "failed").await.fault.map(|it| it.code), Some(code::CANCELLED.to_owned()));
    assert_eq!(rig.keys().await.keys().filter(|it| it.starts_with("packs/")).count(), 0, "packs are left");

    // After it did, and before anybody knows.
    meddler.hold_after("object.commit", Way::Do);
    let object = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    let marker = format!("objects/{object}/ready");
    rig.until("its commit took effect", async || rig.keys().await.contains_key(&marker).then_some(())).await;
    assert_eq!(rig.show(object).await.state, "copying");
    let reply = rig.submit("cancel", json!({"operation": object})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    let view = rig.in_state(object, "ready").await;
    assert_eq!(view.fault, None);
    let late = rig.submit("cancel", json!({"operation": object})).await;
    assert_eq!(late.fault.map(|it| it.code), Some("cancel.too-late".to_owned()));
    rig.restore(object, "new", "raw").await;
    assert!(content(&rig.volume("new"), "raw") == noise(1, 2 << 20));
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_cancel_of_a_ready_object_is_too_late(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
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
    rig.end().await
}

pub(crate) async fn a_held_object_is_destroyed_only_when_the_last_holder_is_done(parts: Parts) -> Mischief {
    let (meddler, rig) = held(parts, "volume.write", Way::Do).await;
    let backup = rig.backup("disk", None).await;
    let user = rig.accepted("create-volume", restore_body(backup.id, "new", "qcow2")).await;
    meddler.reached().await;
    let reply = rig.submit("destroy", json!({"operation": backup.id})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    let late = rig.submit("create-volume", restore_body(backup.id, "late", "qcow2")).await;
    assert!(!late.accepted, "nothing new may hold it");
    let row = operation::Entity::find_by_id(backup.id.0).one(rig.database.read()).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.destroy_requested), ("ready", true));
    meddler.let_go();
    rig.in_state(user, "ready").await;
    rig.in_state(backup.id, "destroyed").await;
    assert!(content(&rig.volume("new"), "qcow2") == noise(1, 2 << 20));
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_volume_that_is_made_without_a_format_is_what_its_name_says_and_backs_up_to_the_same_disk(
    parts: Parts,
) -> Mischief {
    let rig = Rig::new(parts).await;
    let bytes = noise(1, 2 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let backup = rig.backup("disk", None).await;
    for (name, format) in [("new.raw", "raw"), ("new.img", "raw"), ("new.qcow2", "qcow2"), ("new", "qcow2")] {
        let body = json!({"zone": "z1", "from": backup.id, "pool": "fast", "volume": name});
        let made = rig.ready("create-volume", body).await;
        assert_eq!(made.output.unwrap()["format"], format, "{name}");
        assert!(content(&rig.volume(name), format) == bytes, "{name}");
    }
    for (n, name) in ["new.raw", "new.img", "new.qcow2"].into_iter().enumerate() {
        let again = rig.backup(name, None).await;
        let copy = format!("copy{n}");
        rig.restore(again.id, &copy, "raw").await;
        assert!(content(&rig.volume(&copy), "raw") == bytes, "{name} was backed up as something else than it is");
    }
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn of_two_backups_of_one_volume_at_once_the_second_is_told_and_goes_through_later(parts: Parts) -> Mischief {
    let (meddler, rig) = held(parts, "object.copy", Way::Do).await;
    let first = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    meddler.reached().await;
    let second = rig.submit("backup-snapshot", backup_body("disk", None)).await;
    assert_eq!(second.fault.map(|it| it.code), Some("volume.claimed".to_owned()));
    meddler.let_go();
    rig.in_state(first, "ready").await;
    let second = rig.backup("disk", None).await;
    assert_eq!(second.output.unwrap()["base"], json!(first));
    for (id, name) in [(first, "one"), (second.id, "two")] {
        rig.restore(id, name, "raw").await;
        assert!(content(&rig.volume(name), "raw") == noise(1, 2 << 20));
    }
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn an_abandoned_undo_stays_booked_as_remains(parts: Parts) -> Mischief {
    let meddler = Meddler::new();
    let fault = Fault::transient(code::POOL_UNREACHABLE, "the test's pool is away");
    *meddler.fails.lock().unwrap() = Some(Failing { step: "volume.remove".into(), way: Way::Undo, after: false, fault });
    let rig = Rig::with(Options { between: Some(meddler), ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 2 << 20));
    let backup = rig.backup("disk", None).await;
    let made = rig.restore(backup.id, "new", "raw").await;
    assert!(rig.submit("destroy", json!({"operation": made.id})).await.accepted);
    rig.until("it asks for attention", async || rig.show(made.id).await.needs_attention.then_some(())).await;
    let mut body = golden::command("abandon");
    body["operation"] = json!(made.id);
    let reply = rig.submit("abandon", body.clone()).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    let fault = rig.in_state(made.id, "destroyed").await.fault.unwrap();
    assert_eq!((fault.code.as_str(), json!(fault.message)), (code::ABANDONED, body["reason"].clone()));
    let pools = longshore_engine::audit::places(rig.database.read(), "pool").await.unwrap();
    // The disk, its format's tables and its header: once.
    assert_eq!(pools[0].used, (2 << 20) + 2 * 512 + (1 << 20), "what may remain stays booked");
    rig.end().await
}

/// Not in the contract: SQLite has one engine, which locks its file.
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
