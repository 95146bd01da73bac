//! The main job: back up, back up again, restore, destroy, restore again; and what else a user does first.

use crate::rig::{Parts, Rig, backup_body, content, make_volume, noise};
use longshore_courier::embedded::Mischief;
use serde_json::json;

async fn main_job(parts: Parts, format: &str) -> Mischief {
    let rig = Rig::new(parts).await;
    let disk = format!("disk.{format}");
    let mut bytes = noise(1, 8 << 20);
    bytes[2 << 20..4 << 20].fill(0);
    make_volume(&rig.volume(&disk), format, &bytes);
    let first = rig.backup(&disk, None).await;
    let output = first.output.clone().unwrap();
    assert_eq!(output["virtual_size"], 8 << 20);
    assert_eq!(output["zeros"], 2 << 20);
    assert_eq!(output["base"], json!(null));

    let changed = noise(2, 100_000);
    bytes[5 << 20..(5 << 20) + changed.len()].copy_from_slice(&changed);
    bytes[7 << 20..].fill(0);
    std::fs::remove_file(rig.volume(&disk)).unwrap();
    make_volume(&rig.volume(&disk), format, &bytes);
    let second = rig.backup(&disk, None).await;
    let output = second.output.clone().unwrap();
    assert_eq!(output["base"], json!(first.id));
    assert!(output["stored"].as_u64().unwrap() < 300_000, "{output}");
    assert_eq!(output["reused"], (5 << 20) - (2 << 16), "{output}");

    for (id, seed) in [(first.id, "a"), (second.id, "b")] {
        rig.restore(id, &format!("{seed}.qcow2"), "qcow2").await;
        rig.restore(id, &format!("{seed}.raw"), "raw").await;
    }
    assert!(content(&rig.volume("b.qcow2"), "qcow2") == bytes);
    assert!(content(&rig.volume("b.raw"), "raw") == bytes);
    assert!(content(&rig.volume("a.raw"), "raw") != bytes);
    rig.ready("verify-object", json!({"object": second.id})).await;

    rig.destroyed(first.id).await;
    rig.restore(second.id, "again", "qcow2").await;
    assert!(content(&rig.volume("again"), "qcow2") == bytes);
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn the_main_job_on_qcow2(parts: Parts) -> Mischief {
    main_job(parts, "qcow2").await
}

pub(crate) async fn the_main_job_on_raw(parts: Parts) -> Mischief {
    main_job(parts, "raw").await
}

/// The contract's rigs keep objects in a directory.
#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_on_s3() {
    main_job(Parts::Services, "qcow2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_on_swift() {
    main_job(Parts::EmbeddedSwift, "qcow2").await;
}

pub(crate) async fn a_raw_volume_that_looks_like_a_qcow2_comes_back_byte_for_byte(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("inner.qcow2"), "qcow2", &noise(1, 1 << 20));
    let bytes = std::fs::read(rig.volume("inner.qcow2")).unwrap();
    std::fs::write(rig.volume("disk"), &bytes).unwrap();
    let undeclared = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    assert_eq!(rig.in_state(undeclared, "failed").await.fault.unwrap().code, "image.format-undeclared");
    let mut body = backup_body("disk", None);
    body["format"] = json!("raw");
    let backup = rig.ready("backup-snapshot", body).await;
    assert_eq!(backup.output.unwrap()["format"], "raw");
    rig.restore(backup.id, "new", "raw").await;
    assert!(std::fs::read(rig.volume("new")).unwrap() == bytes);
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn the_same_message_gets_the_same_answer_for_ever(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let body = backup_body("disk", None);
    let first = rig.submit_as("one", "backup-snapshot", body.clone()).await;
    let again = rig.submit_as("one", "backup-snapshot", body).await;
    // Of a rig's first command no copy comes before its answer: the channels keep it back until the next one (`certain`).
    assert!(first.accepted && !first.duplicate && again.accepted && again.duplicate);
    assert_eq!(first.operation, again.operation);
    let other = rig.submit_as("one", "backup-snapshot", backup_body("other", None)).await;
    assert_eq!(other.fault.unwrap().code, "command.id-reused");
    let refused =
        rig.submit_as("two", "backup-snapshot", json!({"zone": "z1", "pool": "fast", "volume": "x", "store": "none"})).await;
    let refused_again =
        rig.submit_as("two", "backup-snapshot", json!({"store": "none", "zone": "z1", "pool": "fast", "volume": "x"})).await;
    assert_eq!(refused.fault, refused_again.fault);
    assert_eq!(refused.fault.unwrap().code, "store.unknown");
    rig.in_state(first.operation.unwrap(), "ready").await;
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_destroyed_object_is_swept_and_its_bytes_come_back(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 4 << 20));
    let backup = rig.backup("disk", None).await;
    assert!(rig.keys().await.keys().any(|it| it.starts_with("packs/")));
    rig.destroyed(backup.id).await;
    rig.until("the sweep", async || {
        let keys = rig.keys().await;
        (keys.keys().all(|it| it == "store.json")).then_some(())
    })
    .await;
    rig.until("the bytes are back", async || {
        let places = longshore_engine::audit::places(rig.database.read(), "store").await.unwrap();
        (places[0].used == 0 && places[0].reserved == 0).then_some(())
    })
    .await;
    rig.assert_books().await;
    rig.end().await
}

pub(crate) async fn a_full_copy_because_of_a_damaged_base_keeps_nothing_of_the_base(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 4 << 20));
    let base = rig.backup("disk", None).await;
    let root = rig.keys().await.into_keys().find(|it| it.starts_with("objects/") && !it.ends_with("ready")).unwrap();
    std::fs::write(rig.dir.path().join("store").join(root), "damaged").unwrap();
    let whole = rig.backup("disk", None).await;
    let output = whole.output.unwrap();
    assert!(output["because"].as_str().unwrap().contains("the base can't be used") && output["base"].is_null(), "{output:#}");
    rig.destroyed(base.id).await;
    rig.until("the base's packs are swept", async || {
        let prefix = format!("packs/{}/", base.id);
        (!rig.keys().await.keys().any(|it| it.starts_with(&prefix))).then_some(())
    })
    .await;
    rig.restore(whole.id, "new", "raw").await;
    assert!(content(&rig.volume("new"), "raw") == noise(1, 4 << 20));
    rig.assert_books().await;
    rig.end().await
}

pub(crate) async fn a_destroyed_volume_is_removed_unless_it_is_somebody_elses_by_now(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let backup = rig.backup("disk", None).await;
    let ours = rig.restore(backup.id, "ours", "qcow2").await;
    let theirs = rig.restore(backup.id, "theirs", "qcow2").await;
    std::fs::remove_file(rig.volume("theirs")).unwrap();
    std::fs::write(rig.volume("theirs"), b"precious").unwrap();
    rig.destroyed(ours.id).await;
    rig.destroyed(theirs.id).await;
    assert!(!rig.volume("ours").exists());
    assert_eq!(std::fs::read(rig.volume("theirs")).unwrap(), b"precious");
    rig.assert_clean().await;
    rig.end().await
}
