//! Attempts that die: nothing that was sealed is sent again, and the object is the same.

use super::{
    disk::Disk,
    rig::{KIB, Rig, base, lease},
};
use crate::datapath::{Work, commit};
use longshore_schema::{
    bound::bound,
    fault::{Class, Fault, code},
    ids::{OperationId, PackId},
};
use std::collections::BTreeMap;

/// Packs of several kinds of content, more than one of them.
fn disk() -> Disk {
    let mut disk = Disk::random(80 << 20, 7);
    disk.change(1, 30 << 20, 9 << 20, 0);
    disk.change(3, 50 << 20, 3 << 20, 0);
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_dies_at_any_put_sends_nothing_sealed_again() {
    let disk = disk();
    let whole = Rig::new(256).await;
    let (_, expected) = whole.backup(&disk, None).await;
    let puts = whole.watched.watch.lock().unwrap().puts.len() - 1;
    assert!(puts >= 4, "{puts}");
    for dies_at in 0..puts {
        for fails_late in [false, true] {
            let rig = Rig::new(256).await;
            let operation = OperationId::new();
            if fails_late {
                rig.dies_late_at(dies_at)
            } else {
                rig.dies_at(dies_at)
            }
            let fault = rig.copy(&disk, operation, 1, None).await.unwrap_err();
            assert_eq!((fault.code.as_str(), fault.class), (code::STORE_UNAVAILABLE, Class::Transient));
            let sealed: u64 = rig.keys("packs/").await.iter().map(|entry| entry.bytes).sum();
            let before = rig.put_bytes();
            rig.heal();

            let copied = rig.copy(&disk, operation, 2, None).await.unwrap();
            assert_eq!(copied.digest, expected.digest);
            assert_eq!(copied.stored, rig.put_bytes() - before);
            let pages = 100 * KIB as u64;
            assert!(copied.stored <= expected.stored - sealed + pages, "{} sent again after {sealed}", copied.stored);
            rig.commit(operation, &copied.root).await.unwrap();
            assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
            // The engine may know none of the packs: the report has them all.
            let reported: BTreeMap<PackId, u64> = copied.packs.iter().map(|pack| (pack.id.clone(), pack.bytes)).collect();
            let there = rig.keys("packs/").await.into_iter().map(|entry| (PackId::of_key(&entry.key).unwrap(), entry.bytes));
            assert_eq!(reported, there.collect());
        }
    }
}

/// A worker that is started again gets the engine's word for an attempt that its last process had begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_begun_twice_goes_on_beside_its_first_packs() {
    for changes in [false, true] {
        for damages in [false, true] {
            let rig = Rig::new(256).await;
            let mut disk = disk();
            let operation = OperationId::new();
            rig.dies_at(2);
            rig.copy(&disk, operation, 1, None).await.unwrap_err();
            rig.heal();
            let first = rig.keys("packs/").await;
            assert_eq!(first.len(), 2);
            if changes {
                disk.change(0, 1 << 20, 512 * KIB, 99);
            }
            if damages {
                let path = rig.path(&first[1].key);
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..100]).unwrap();
            }
            let copied = rig.copy(&disk, operation, 1, None).await.unwrap();
            rig.commit(operation, &copied.root).await.unwrap();
            assert!(copied.resumed > 0);
            assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_done_twice_leaves_what_once_leaves() {
    for extent_kib in [64, 256] {
        let rig = Rig::new(extent_kib).await;
        let disk = disk();
        let operation = OperationId::new();
        let once = rig.copy(&disk, operation, 1, None).await.unwrap();
        let left = rig.keys("").await;
        let twice = rig.copy(&disk, operation, 1, None).await.unwrap();
        assert_eq!((&twice.root, &twice.digest), (&once.root, &once.digest));
        assert_eq!(rig.keys("").await, left);
        rig.commit(operation, &twice.root).await.unwrap();
        assert!(rig.restore(operation, &twice.root).await.unwrap() == disk.bytes);
    }
}

/// Its first process had put the root: another one doesn't take its place, and the next attempt has a name of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_never_put_twice() {
    let rig = Rig::new(256).await;
    let mut disk = disk();
    let operation = OperationId::new();
    rig.copy(&disk, operation, 1, None).await.unwrap();
    disk.change(0, 1 << 20, 512 * KIB, 99);
    let fault = rig.copy(&disk, operation, 1, None).await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.class), (code::STORE_MISBEHAVED, Class::Transient));
    let copied = rig.copy(&disk, operation, 2, None).await.unwrap();
    rig.commit(operation, &copied.root).await.unwrap();
    assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changed_between_attempts_is_copied_as_it_is_now() {
    let rig = Rig::new(256).await;
    let mut disk = disk();
    let operation = OperationId::new();
    rig.dies_at(2);
    rig.copy(&disk, operation, 1, None).await.unwrap_err();
    rig.heal();
    disk.change(0, 1 << 20, 512 * KIB, 99);
    disk.change(2, 3 << 20, 256 * KIB, 0);
    let copied = rig.copy(&disk, operation, 2, None).await.unwrap();
    rig.commit(operation, &copied.root).await.unwrap();
    assert!(copied.resumed > 0);
    assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
    let (_, fresh) = rig.backup(&disk, None).await;
    assert_eq!(fresh.digest, copied.digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_pack_of_an_earlier_attempt_is_ignored_and_unused() {
    let rig = Rig::new(256).await;
    let disk = disk();
    let operation = OperationId::new();
    rig.dies_at(1);
    rig.copy(&disk, operation, 1, None).await.unwrap_err();
    rig.heal();
    let sealed = rig.keys("packs/").await;
    for entry in &sealed {
        let path = rig.path(&entry.key);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    }
    let copied = rig.copy(&disk, operation, 2, None).await.unwrap();
    assert_eq!(copied.resumed, 0);
    rig.commit(operation, &copied.root).await.unwrap();
    assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_never_puts_more_than_it_may() {
    let mut rig = Rig::new(256).await;
    let disk = disk();
    let (_, whole) = rig.backup(&disk, None).await;
    for may_write in [0, 1 << 20, whole.stored - 1] {
        rig.may_write = Some(may_write);
        let operation = OperationId::new();
        for attempt in 1..=2 {
            let fault = rig.copy(&disk, operation, attempt, None).await.unwrap_err();
            assert_eq!((fault.code.as_str(), fault.class), (code::RESERVATION_EXCEEDED, Class::Permanent));
        }
        let packs = rig.keys(&format!("packs/{operation}/")).await;
        assert!(packs.iter().map(|entry| entry.bytes).sum::<u64>() <= may_write);
        assert_eq!(rig.keys(&format!("objects/{operation}/")).await, []);
    }
    rig.may_write = Some(whole.stored);
    rig.copy(&disk, OperationId::new(), 1, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_rewritten_between_attempts_is_named_as_the_reason_and_leaves_nothing() {
    let mut rig = Rig::new(256).await;
    let mut disk = Disk::random(100 << 20, 1);
    rig.may_write = Some(bound(100 << 20, disk.allocated_bytes(), rig.extent_size));
    let operation = OperationId::new();
    rig.dies_at(2);
    rig.copy(&disk, operation, 1, None).await.unwrap_err();
    rig.heal();
    disk.change(0, 0, 100 << 20, 2);
    let fault = rig.copy(&disk, operation, 2, None).await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.class), (code::VOLUME_CHANGED, Class::Permanent));
    assert!(fault.message.contains("changes while it is copied"), "{fault}");
    commit::discard(&rig.work(operation, 3)).await.unwrap();
    assert_eq!(rig.keys("packs/").await, []);

    // A little that changes fits: the object is what the last attempt read.
    let operation = OperationId::new();
    rig.dies_at(2);
    rig.copy(&disk, operation, 1, None).await.unwrap_err();
    rig.heal();
    disk.change(0, 1 << 20, 4096, 3);
    let copied = rig.copy(&disk, operation, 2, None).await.unwrap();
    assert!(copied.resumed > 0);
    rig.commit(operation, &copied.root).await.unwrap();
    assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_vanishes_is_the_readers_fault_and_a_stop_is_obeyed() {
    let rig = Rig::new(256).await;
    let disk = disk();
    let operation = OperationId::new();
    let work = rig.work(operation, 1);
    let fault = rig.copy_reader(disk.vanishing_reader(40 << 20), &work, None).await.unwrap_err();
    assert_eq!(fault.code, code::VOLUME_READ_FAILED);
    assert_eq!(rig.keys("objects/").await, []);

    let stopped = Work { lease: lease(operation, 2), attempt: 2, ..work };
    stopped.lease.stop(Fault::cancelled("asked to"));
    let before = rig.put_bytes();
    assert_eq!(rig.copy_reader(disk.reader(), &stopped, None).await.unwrap_err().code, code::CANCELLED);
    assert_eq!(rig.put_bytes(), before);
    assert_eq!(commit::discard(&stopped).await.unwrap_err().code, code::CANCELLED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incremental_that_dies_takes_from_its_base_and_from_its_first_attempt() {
    let rig = Rig::new(64).await;
    let mut disk = Disk::random(90 << 20, 3);
    let (first, copied) = rig.backup(&disk, None).await;
    disk.change(0, 5 << 20, 70 << 20, 11);
    let operation = OperationId::new();
    rig.dies_at(1);
    rig.copy(&disk, operation, 1, base(first, &copied)).await.unwrap_err();
    rig.heal();
    let again = rig.copy(&disk, operation, 2, base(first, &copied)).await.unwrap();
    assert_eq!(again.reused, 20 << 20);
    assert!(again.resumed >= 32 << 20, "{}", again.resumed);
    rig.commit(operation, &again.root).await.unwrap();
    assert!(rig.restore(operation, &again.root).await.unwrap() == disk.bytes);
    assert!(rig.restore(first, &copied.root).await.unwrap() == Disk::random(90 << 20, 3).bytes);
}
