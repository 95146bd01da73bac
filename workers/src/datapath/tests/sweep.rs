//! Markers, undo and sweep: who counts, and what is removed.

use super::{
    disk::Disk,
    rig::{Rig, lease},
};
use crate::{
    datapath::commit,
    steps::{Context, OpenStore, Reach, sweep},
};
use longshore_schema::{
    fault::{Class, code},
    ids::{OperationId, PackId},
    steps::sweep::{Chosen, Delete, List, Listed},
};
use std::{collections::HashMap, sync::Arc};

pub(super) fn context(rig: &Rig) -> Context {
    let lease = lease(OperationId::new(), 1);
    let open = OpenStore { store: rig.store.clone(), extent_size: rig.extent_size, checks_bodies: true };
    let reach = Reach { stores: HashMap::from([("main".to_owned(), open)]), ..Reach::default() };
    Context { attempt: lease.attempt(), lease, may_write: None, reach: Arc::new(reach) }
}

pub(super) async fn list(rig: &Rig, older_than_s: u64, limit: u32) -> Listed {
    sweep::list(context(rig), List { store: "main".into(), older_than_s, limit }, ()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_twice_says_the_same_and_never_replaces_a_root() {
    let rig = Rig::new(64).await;
    let operation = OperationId::new();
    let first = rig.copy(&Disk::random(100_000, 1), operation, 1, None).await.unwrap();
    let second = rig.copy(&Disk::random(100_000, 2), operation, 2, None).await.unwrap();
    let committed = rig.commit(operation, &first.root).await.unwrap();
    assert!(committed.read_back > first.root.bytes);
    for root in [&first.root, &second.root] {
        assert_eq!(rig.commit(operation, root).await.unwrap().root, first.root);
    }
    let probed = commit::probe(&rig.work(operation, 3)).await.unwrap();
    assert_eq!(probed.unwrap().root, first.root);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_probe_that_found_nothing_no_commit_counts() {
    let rig = Rig::new(64).await;
    let operation = OperationId::new();
    let copied = rig.copy(&Disk::random(100_000, 1), operation, 1, None).await.unwrap();
    let ready = crate::datapath::format::ready::encode_ready(&copied.root).unwrap();
    assert_eq!(commit::probe(&rig.work(operation, 2)).await.unwrap(), None);
    let fault = rig.commit(operation, &copied.root).await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.class), (code::OPERATION_WRONG_STATE, Class::Permanent));
    // A late writer that didn't look.
    let key = format!("objects/{operation}/ready");
    rig.store.put(&key, ready.into(), crate::store::PutMode::Create).await.unwrap();
    assert_eq!(commit::committed(&rig.store, operation).await.unwrap(), None);
    assert_eq!(commit::probe(&rig.work(operation, 3)).await.unwrap(), None);
    for _ in 0..2 {
        commit::discard(&rig.work(operation, 4)).await.unwrap();
        assert_eq!(rig.keys("packs/").await, []);
        let left: Vec<String> = rig.keys("objects/").await.into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, [format!("objects/{operation}/aborted")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_neither_discarded_nor_swept_until_it_is_unlinked() {
    let rig = Rig::new(64).await;
    let disk = Disk::random(100_000, 1);
    let (object, copied) = rig.backup(&disk, None).await;
    assert_eq!(commit::discard(&rig.work(object, 2)).await.unwrap_err().code, code::OPERATION_WRONG_STATE);
    let chosen = Chosen { objects: vec![object], ..Chosen::default() };
    let fault = sweep::delete(context(&rig), Delete { store: "main".into() }, chosen).await.unwrap_err();
    assert_eq!(fault.code, code::OPERATION_WRONG_STATE);
    assert_eq!(list(&rig, 0, 10).await, Listed::default());
    assert!(rig.restore(object, &copied.root).await.unwrap() == disk.bytes);

    for _ in 0..2 {
        commit::unlink(&rig.work(object, 3)).await.unwrap();
        let left: Vec<String> = rig.keys("objects/").await.into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, [format!("objects/{object}/aborted")]);
    }
    assert_eq!(rig.keys("packs/").await.len(), 2, "the packs are the engine's to count");
    // A commit whose host stood still until now.
    let (key, ready) = (format!("objects/{object}/ready"), crate::datapath::format::ready::encode_ready(&copied.root).unwrap());
    rig.store.put(&key, ready.into(), crate::store::PutMode::Create).await.unwrap();
    assert_eq!(commit::committed(&rig.store, object).await.unwrap(), None, "it counts no more");
    commit::discard(&rig.work(object, 4)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_finds_what_dead_operations_left_and_removes_what_was_chosen() {
    let rig = Rig::new(64).await;
    let disk = Disk::random(100_000, 1);
    let (living, copied) = rig.backup(&disk, None).await;
    let dead = OperationId::new();
    let left = rig.copy(&disk, dead, 1, None).await.unwrap();
    let aborted = OperationId::new();
    commit::discard(&rig.work(aborted, 1)).await.unwrap();
    let put = |key: &'static str| rig.store.put(key, "x".into(), crate::store::PutMode::Create);
    put("packs/strange").await.unwrap();
    put("objects/strange/ready").await.unwrap();

    let found = list(&rig, 0, 10).await;
    let mut packs: Vec<PackId> = found.packs.iter().map(|pack| pack.id.clone()).collect();
    packs.sort();
    assert_eq!(packs, left.packs.iter().map(|pack| pack.id.clone()).collect::<Vec<_>>());
    assert_eq!(found.objects, [dead, aborted]);
    assert_eq!(found.foreign, ["objects/strange/ready", "packs/strange"]);
    assert_eq!(rig.keys("clock/").await, []);
    let limited = list(&rig, 0, 1).await;
    assert_eq!((limited.packs.len(), limited.objects.len()), (1, 1));
    let young = list(&rig, 3600, 10).await;
    assert_eq!((young.packs, young.objects), (vec![], vec![]));

    let remains = vec![living, dead, aborted];
    let looked = Chosen { remains: remains.clone(), ..Chosen::default() };
    let looked = sweep::delete(context(&rig), Delete { store: "main".into() }, looked).await.unwrap();
    assert_eq!((looked.keys, looked.gone), (0, vec![]), "all of them have something there");
    let chosen = Chosen { packs, objects: found.objects, remains, ..Chosen::default() };
    let removed = sweep::delete(context(&rig), Delete { store: "main".into() }, chosen.clone()).await.unwrap();
    assert_eq!(removed.keys, 4, "two packs, a root and a marker");
    assert_eq!(removed.gone, [dead, aborted]);
    let again = sweep::delete(context(&rig), Delete { store: "main".into() }, chosen).await.unwrap();
    assert_eq!(again.keys, 0);
    assert_eq!(list(&rig, 0, 10).await.packs, []);
    assert!(rig.restore(living, &copied.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_finds_the_pack_that_a_late_writer_put_beside_a_committed_object() {
    let rig = Rig::new(64).await;
    let disk = Disk::random(100_000, 1);
    let operation = OperationId::new();
    let first = rig.copy(&disk, operation, 1, None).await.unwrap();
    // The second attempt takes over the extents of the first one's pack, and commits.
    let second = rig.copy(&disk, operation, 2, None).await.unwrap();
    rig.commit(operation, &second.root).await.unwrap();
    let late = PackId { operation, attempt: 1, n: 77 };
    let body = rig.store.get(&first.packs[0].id.key(), 0..first.packs[0].bytes).await.unwrap();
    rig.store.put(&late.key(), body, crate::store::PutMode::Create).await.unwrap();

    let found: Vec<PackId> = list(&rig, 0, 10).await.packs.into_iter().map(|pack| pack.id).collect();
    assert!(found.contains(&late), "{found:?}");
    let chosen = Chosen { packs: found, ..Chosen::default() };
    sweep::delete(context(&rig), Delete { store: "main".into() }, chosen).await.unwrap();
    assert!(rig.restore(operation, &second.root).await.unwrap() == disk.bytes);
}
