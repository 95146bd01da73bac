//! Packs that are mostly dead: the next backup stores again what it needs of them, and then they go.

use crate::rig::{Parts, Rig, content, noise};
use longshore_courier::embedded::Mischief;
use longshore_schema::ids::OperationId;
use serde_json::json;

const EXTENT: usize = 64 << 10;

/// Packs in the store that an operation wrote.
async fn packs(rig: &Rig, of: OperationId) -> usize {
    rig.keys().await.keys().filter(|key| key.starts_with(&format!("packs/{of}/"))).count()
}

pub(crate) async fn mostly_dead_packs_go(parts: Parts) -> Mischief {
    let rig = Rig::new(parts).await;
    let (old, new) = (noise(1, 60 * EXTENT), noise(2, 60 * EXTENT));
    std::fs::write(rig.volume("disk.raw"), &old).unwrap();
    let first = rig.backup("disk.raw", None).await;
    let bytes = [&old[..6 * EXTENT], &new[6 * EXTENT..]].concat();
    std::fs::write(rig.volume("disk.raw"), &bytes).unwrap();
    let second = rig.backup("disk.raw", None).await;
    let third = rig.backup("disk.raw", None).await;
    let repacked = |view: &longshore_engine::audit::OperationView| view.output.as_ref().unwrap()["repacked"].clone();
    assert_eq!(repacked(&third), json!(0), "the first one needs all of its pack: nothing would be saved");

    rig.destroyed(first.id).await;
    let fourth = rig.backup("disk.raw", None).await;
    assert_eq!(repacked(&fourth), json!(6 * EXTENT));
    assert_eq!(fourth.output.unwrap()["reused"], json!(54 * EXTENT));
    assert_ne!(packs(&rig, first.id).await, 0, "others still need it");
    rig.restore(third.id, "third", "raw").await;
    for gone in [second.id, third.id] {
        rig.destroyed(gone).await;
    }
    rig.assert_clean().await;
    rig.until("the first one's packs are swept", async || (packs(&rig, first.id).await == 0).then_some(())).await;
    // A named base is looked at in the same way as the latest.
    let body = json!({"zone": "z1", "pool": "fast", "volume": "disk.raw", "store": "main", "base": fourth.id});
    let fifth = rig.ready("backup-snapshot", body).await;
    assert_eq!(repacked(&fifth), json!(0));
    for (from, volume) in [(fourth.id, "fourth"), (fifth.id, "fifth")] {
        rig.restore(from, volume, "raw").await;
        assert!(content(&rig.volume(volume), "raw") == bytes, "{volume}");
    }
    assert!(content(&rig.volume("third"), "raw") == bytes);
    rig.assert_clean().await;
    rig.end().await
}

/// The contract's rigs keep objects in a directory.
#[tokio::test(flavor = "multi_thread")]
async fn mostly_dead_packs_go_from_s3() {
    mostly_dead_packs_go(Parts::Services).await;
}
