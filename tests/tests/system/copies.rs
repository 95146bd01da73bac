//! `copy-object`: a copy in another store is an object of its own, with the same digests, whatever becomes of its source.

use crate::{
    meddler::{Failing, Meddler},
    rig::{Options, Parts, Rig, content, copy_body, keys, make_volume, noise},
};
use longshore_courier::embedded::Mischief;
use longshore_engine::audit::OperationView;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::Way,
    tables::operation,
};
use longshore_workers::store::PutMode;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

const EXTENT: u64 = 64 << 10;

async fn rig_of_two(parts: Parts) -> Rig {
    Rig::with(Options { two: true, ..Options::new(parts) }).await
}

async fn copied(rig: &Rig, from: OperationId, store: &str) -> OperationView {
    rig.ready("copy-object", copy_body(from, store)).await
}

fn made(object: &OperationView, field: &str) -> Value {
    object.output.as_ref().unwrap()[field].clone()
}

/// An object restores to these bytes.
async fn assert_restores(rig: &Rig, object: OperationId, bytes: &[u8]) {
    let volume = format!("restored-{object}");
    rig.restore(object, &volume, "raw").await;
    assert!(content(&rig.volume(&volume), "raw") == bytes, "{object}");
    std::fs::remove_file(rig.volume(&volume)).unwrap();
}

/// Keys of the other store, but for the word that an object doesn't count.
async fn left(rig: &Rig) -> Vec<String> {
    keys(rig.other()).await.into_keys().filter(|it| !it.ends_with("/aborted")).collect()
}

pub(crate) async fn a_copy_outlives_its_source_and_its_sources_store(parts: Parts) -> Mischief {
    let rig = rig_of_two(parts).await;
    let mut bytes = noise(1, 4 << 20);
    bytes[1 << 20..2 << 20].fill(0);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let (first, first_bytes) = (rig.backup("disk", None).await, bytes.clone());
    let first_copy = copied(&rig, first.id, "other").await;
    bytes[3 << 20..(3 << 20) + 9].fill(7);
    std::fs::write(rig.volume("disk"), &bytes).unwrap();
    let second = rig.backup("disk", None).await;
    let second_copy = copied(&rig, second.id, "other").await;

    for (source, copy) in [(&first, &first_copy), (&second, &second_copy)] {
        assert_eq!(made(copy, "digest"), made(source, "digest"));
        let origin = json!({"object": source.id, "store": "main", "digest": made(source, "digest"), "extent_size": EXTENT});
        assert_eq!((made(copy, "copy_of"), made(copy, "from"), made(copy, "store")), (origin, json!(source.id), json!("other")));
        assert_eq!(made(copy, "source"), "fast/disk");
    }
    assert_eq!([made(&first_copy, "base"), made(&second_copy, "base")], [json!(null), json!(first_copy.id)]);
    assert_eq!(made(&second_copy, "reused"), (3 << 20) - EXTENT, "only what changed is sent");
    assert!(made(&second_copy, "stored").as_u64().unwrap() < 3 * EXTENT, "{second_copy:?}");
    let path = second_copy.path.as_ref().unwrap();
    assert!(path.chosen == "direct" && path.because.contains("frames are passed on"), "{path:?}");
    for object in [&first, &first_copy] {
        let store = made(object, "store");
        let refused = rig.submit("copy-object", copy_body(object.id, store.as_str().unwrap())).await;
        assert_eq!(refused.fault.map(|it| it.code), Some(code::STORE_SAME.to_owned()));
    }

    rig.destroyed(first.id).await;
    rig.destroyed(second.id).await;
    rig.assert_clean().await;
    std::fs::remove_dir_all(rig.dir.path().join("store")).unwrap();
    rig.ready("verify-object", json!({"object": second_copy.id})).await;
    assert_restores(&rig, first_copy.id, &first_bytes).await;
    assert_restores(&rig, second_copy.id, &bytes).await;
    rig.destroyed(first_copy.id).await;
    assert_restores(&rig, second_copy.id, &bytes).await;
    rig.destroyed(second_copy.id).await;
    rig.until("the sweep", async || keys(rig.other()).await.keys().all(|it| it == "store.json").then_some(())).await;
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_source_that_is_to_go_stays_until_its_copy_is_made(parts: Parts) -> Mischief {
    let meddler = Meddler::new();
    meddler.hold("object.transfer", Way::Do);
    let rig = Rig::with(Options { two: true, between: Some(meddler.clone()), ..Options::new(parts) }).await;
    let bytes = noise(1, 2 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let source = rig.backup("disk", None).await;
    let copy = rig.accepted("copy-object", copy_body(source.id, "other")).await;
    meddler.reached().await;
    let reply = rig.submit("destroy", json!({"operation": source.id})).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    let late = rig.submit("copy-object", copy_body(source.id, "other")).await;
    assert_eq!(late.fault.map(|it| it.code), Some(code::OBJECT_GONE.to_owned()), "nothing new may hold it");
    let row = operation::Entity::find_by_id(source.id.0).one(rig.database.read()).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.destroy_requested), ("ready", true));
    meddler.let_go();
    rig.in_state(copy, "ready").await;
    rig.in_state(source.id, "destroyed").await;
    assert_restores(&rig, copy, &bytes).await;
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_damaged_source_fails_its_copy_and_leaves_nothing_in_the_other_store(parts: Parts) -> Mischief {
    let rig = rig_of_two(parts).await;
    let bytes = noise(1, 3 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let source = rig.backup("disk", None).await;
    let root = format!("objects/{}/{}.manifest", source.id, made(&source, "root")["attempt"]);
    let parts_of_it: Vec<_> = rig.keys().await.into_iter().filter(|(key, _)| key.starts_with("packs/") || *key == root).collect();
    assert!(parts_of_it.len() >= 3, "{parts_of_it:?}");
    for (key, length) in parts_of_it {
        let whole = rig.store.get(&key, 0..length).await.unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 3] ^= 1;
        for bad in [Some(flipped), None] {
            let wanted = if bad.is_some() { code::OBJECT_CORRUPT } else { code::OBJECT_MISSING };
            match bad {
                Some(bad) => drop(rig.store.put(&key, bad.into(), PutMode::Replace).await.unwrap()),
                None => rig.store.delete(&key).await.unwrap(),
            }
            let copy = rig.accepted("copy-object", copy_body(source.id, "other")).await;
            let fault = rig.in_state(copy, "failed").await.fault.unwrap();
            assert_eq!(fault.code, wanted, "{key}: {fault}");
            assert!(fault.message.contains(&format!("read object {} in store main", source.id)), "{fault}");
            assert_eq!(left(&rig).await, ["store.json"], "{key}");
        }
        rig.store.put(&key, whole, PutMode::Replace).await.unwrap();
    }
    assert_eq!(rig.show(source.id).await.state, "ready");
    let copy = copied(&rig, source.id, "other").await;
    assert_restores(&rig, copy.id, &bytes).await;
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn a_copy_that_has_to_begin_again_sends_nothing_twice(parts: Parts) -> Mischief {
    let meddler = Meddler::new();
    let rig = Rig::with(Options { two: true, between: Some(meddler.clone()), ..Options::new(parts) }).await;
    let bytes = noise(1, 8 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let source = rig.backup("disk", None).await;
    let fault = Fault::transient(code::STORE_UNAVAILABLE, "the test's network is away");
    *meddler.fails.lock().unwrap() = Some(Failing { step: "object.transfer".into(), way: Way::Do, after: true, fault });
    let copy = rig.accepted("copy-object", copy_body(source.id, "other")).await;
    let packs = async || {
        let mut packs = keys(rig.other()).await;
        packs.retain(|key, _| key.starts_with("packs/"));
        packs
    };
    // The fault is reported after the root was put, and the packs before it.
    let root = format!("objects/{copy}/");
    rig.until("all is stored", async || keys(rig.other()).await.keys().any(|it| it.starts_with(&root)).then_some(())).await;
    let stored = packs().await;
    *meddler.fails.lock().unwrap() = None;
    let copy = rig.in_state(copy, "ready").await;
    assert_eq!((made(&copy, "resumed"), made(&copy, "read")), (json!(8 << 20), json!(0)));
    let again: u64 = packs().await.iter().filter(|(key, _)| !stored.contains_key(*key)).map(|(_, bytes)| bytes).sum();
    assert!(again < EXTENT, "{again} bytes beside {stored:?}");
    assert_restores(&rig, copy.id, &bytes).await;
    rig.assert_clean().await;
    rig.end().await
}

/// There and back again: S3 and a directory side by side in one zone, with extents of the same size and of others.
async fn copies_go_both_ways(parts: Parts) {
    for other_extent_kib in [64, 256] {
        let rig = Rig::with(Options { two: true, other_extent_kib, ..Options::new(parts) }).await;
        let mut bytes = noise(1, (6 << 20) + 4608);
        bytes[1 << 20..2 << 20].fill(0);
        bytes[3 << 20..4 << 20].fill(b'x');
        (4 << 20..5 << 20).step_by(2048).for_each(|at| bytes[at..at + 1536].fill(0));
        make_volume(&rig.volume("disk"), "raw", &bytes);
        let source = rig.backup("disk", None).await;
        let there = copied(&rig, source.id, "other").await;
        assert_eq!(made(&there, "extent_size"), other_extent_kib << 10);
        assert_eq!(made(&there, "digest") == made(&source, "digest"), other_extent_kib == 64);
        assert_eq!(made(&there, "copy_of")["digest"], made(&source, "digest"));
        let because = there.path.as_ref().unwrap().because.clone();
        assert_eq!(because.contains("frames are passed on"), other_extent_kib == 64, "{because}");
        assert_restores(&rig, there.id, &bytes).await;

        // What it was made from is still there: nothing but a root is new.
        let back = copied(&rig, there.id, "main").await;
        assert_eq!((made(&back, "digest"), made(&back, "base")), (made(&source, "digest"), json!(source.id)));
        assert_eq!(made(&back, "stored"), made(&back, "root")["bytes"]);
        let mut body = copy_body(there.id, "main");
        body["base"] = "full".into();
        let whole = rig.ready("copy-object", body).await;
        assert_eq!((made(&whole, "digest"), made(&whole, "base")), (made(&source, "digest"), json!(null)));
        for gone in [source.id, there.id] {
            rig.destroyed(gone).await;
        }
        rig.assert_clean().await;
        for object in [back.id, whole.id] {
            rig.ready("verify-object", json!({"object": object})).await;
            assert_restores(&rig, object, &bytes).await;
        }
        rig.assert_clean().await;
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_from_s3_to_a_directory_and_back() {
    copies_go_both_ways(Parts::EmbeddedS3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_from_s3_to_a_directory_and_back_over_rabbitmq() {
    copies_go_both_ways(Parts::Services).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_from_a_directory_to_another_one_and_back() {
    copies_go_both_ways(Parts::Embedded).await;
}
