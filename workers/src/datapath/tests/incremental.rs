//! Incrementals against a reference: every object restores to its instant, whatever is deleted beside it.

use super::{
    disk::Disk,
    rig::{KIB, Rig, base},
};
use crate::datapath::commit;
use longshore_schema::{
    fault::code,
    ids::{OperationId, PackId},
    steps::object::Copied,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[derive(Debug, Clone)]
enum Act {
    Change { kind: u8, start: usize, length: usize },
    Resize(usize),
    Backup { incremental: bool },
}

const LARGEST: usize = 3_000_000;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0u8..4, 0..LARGEST, prop_oneof![1usize..5_000, 1usize..600_000]).prop_map(|(kind, start, length)| Act::Change { kind, start, length }),
        1 => (1usize..LARGEST).prop_map(Act::Resize),
        3 => prop::bool::weighted(0.8).prop_map(|incremental| Act::Backup { incremental }),
    ]
}

/// Packs that a root lists.
async fn packs(rig: &Rig, object: OperationId, copied: &Copied) -> BTreeSet<PackId> {
    let root = crate::datapath::manifest::load_root(&rig.store, object, &copied.root).await.unwrap();
    root.packs.into_iter().map(|pack| pack.id).collect()
}

async fn history_restores(acts: Vec<Act>, size: usize, extent_kib: usize, dies: usize) {
    let rig = Rig::new(extent_kib).await;
    let mut disk = Disk::of_size(size);
    let mut taken: Vec<(Vec<u8>, OperationId, Copied)> = vec![];
    for (number, act) in acts.into_iter().chain([Act::Backup { incremental: true }]).enumerate() {
        match act {
            Act::Change { kind, start, length } => disk.change(kind, start % disk.bytes.len(), length, number as u64),
            Act::Resize(size) => disk.resize(size),
            Act::Backup { incremental } => {
                let last = taken.last().filter(|_| incremental);
                let (object, copied) = rig.backup(&disk, last.and_then(|(_, object, copied)| base(*object, copied))).await;
                taken.push((disk.bytes.clone(), object, copied));
            }
        }
    }
    for (bytes, object, copied) in &taken {
        assert!(rig.restore(*object, &copied.root).await.unwrap() == *bytes, "an object isn't its instant");
        let verified = rig.verify(*object, &copied.root).await.unwrap();
        assert_eq!((&verified.digest, verified.virtual_size), (&copied.digest, bytes.len() as u64));
        for (other_bytes, _, other) in &taken {
            assert_eq!(copied.digest == other.digest, bytes == other_bytes, "equal digests are equal disks");
        }
    }
    // Destroy one: its markers and roots, then the packs that nobody else uses.
    let (_, dead, dead_copied) = taken.remove(dies % taken.len());
    let mut exclusive = packs(&rig, dead, &dead_copied).await;
    for (_, object, copied) in &taken {
        exclusive = exclusive.difference(&packs(&rig, *object, copied).await).cloned().collect();
    }
    commit::unlink(&rig.work(dead, 2)).await.unwrap();
    for pack in exclusive {
        rig.store.delete(&pack.key()).await.unwrap();
    }
    assert!(rig.restore(dead, &dead_copied.root).await.is_err());
    for (bytes, object, copied) in &taken {
        assert!(rig.restore(*object, &copied.root).await.unwrap() == *bytes, "deleting one harmed another");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_backup_of_a_random_history_restores_to_its_instant(
        acts in prop::collection::vec(act(), 1..14),
        size in 1usize..LARGEST,
        extent_kib in prop::sample::select(vec![64usize, 128, 1024]),
        dies in any::<usize>(),
    ) {
        runtime().block_on(history_restores(acts, size, extent_kib, dies));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_source_twice_stores_no_extent_and_no_page_again() {
    let rig = Rig::new(64).await;
    let disk = Disk::random(20_000_000, 1);
    let (first, copied) = rig.backup(&disk, None).await;
    let (second, again) = rig.backup(&disk, base(first, &copied)).await;
    assert_eq!(again.digest, copied.digest);
    assert_eq!((again.reused, again.resumed, again.stored), (20_000_000, 0, again.root.bytes));
    assert_eq!(rig.keys(&format!("packs/{second}/")).await, []);
    assert_eq!(again.dropped, []);
    assert!(again.because.unwrap().contains("incremental") && !again.without_base);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scattered_change_costs_its_extents_and_a_few_pages() {
    let rig = Rig::new(64).await;
    let mut disk = Disk::random(600 * 64 * KIB, 1);
    let (first, copied) = rig.backup(&disk, None).await;
    disk.change(0, 130 * 64 * KIB + 5, 1, 2);
    let (second, again) = rig.backup(&disk, base(first, &copied)).await;
    assert_eq!(again.reused, 599 * 64 * KIB as u64);
    assert!(again.stored < 100 * KIB as u64, "{}", again.stored);
    assert!(rig.restore(second, &again.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeros_after_data_are_zeros_whether_written_or_discarded() {
    for kind in [2, 3] {
        let rig = Rig::new(64).await;
        let mut disk = Disk::random(2_000_000, 1);
        let (first, copied) = rig.backup(&disk, None).await;
        disk.change(kind, 0, 1_000_000, 0);
        let (second, again) = rig.backup(&disk, base(first, &copied)).await;
        assert!(rig.restore(second, &again.root).await.unwrap() == disk.bytes);
        assert_eq!(again.zeros, 1_000_000 / 65_536 * 65_536);
        let numbers = |copied: &Copied| copied.dropped.iter().map(|pack| (pack.operation, pack.n)).collect::<Vec<_>>();
        assert_eq!(numbers(&again), [(first, 1)], "the first one's page was rewritten");
        disk.change(kind, 0, 2_000_000, 0);
        let (third, again) = rig.backup(&disk, base(second, &again)).await;
        assert!(rig.restore(third, &again.root).await.unwrap() == disk.bytes);
        assert_eq!(again.stored, again.root.bytes);
        assert_eq!(numbers(&again), [(first, 0), (second, 0), (second, 1)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_and_one_of_a_single_byte_come_back() {
    let rig = Rig::new(1024).await;
    for disk in [Disk::of_size(0), Disk::of_size(1), Disk::random(1, 3), Disk::of_size(10_000_000)] {
        let (object, copied) = rig.backup(&disk, None).await;
        assert!(rig.restore(object, &copied.root).await.unwrap() == disk.bytes);
        rig.verify(object, &copied.root).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_cannot_be_used_makes_a_full_copy_that_says_why() {
    let mut rig = Rig::new(64).await;
    let disk = Disk::random(9_000_000, 1);
    let (first, copied) = rig.backup(&disk, None).await;
    rig.extent_size = 128 << 10;
    let (second, again) = rig.backup(&disk, base(first, &copied)).await;
    assert!(again.because.unwrap().contains("another size"));
    assert_eq!(again.reused, 0);
    assert!(rig.restore(second, &again.root).await.unwrap() == disk.bytes);
    rig.extent_size = 64 << 10;
    let root = rig.path(&format!("objects/{first}/1.manifest"));
    let pages = rig.path(&copied.packs.last().unwrap().id.key());
    for path in [pages, root] {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (third, again) = rig.backup(&disk, base(first, &copied)).await;
        assert!(again.because.as_ref().unwrap().contains(code::OBJECT_CORRUPT), "{again:?}");
        assert!(again.without_base && again.dropped.is_empty(), "{again:?}");
        assert_eq!(again.reused, 0);
        assert!(rig.restore(third, &again.root).await.unwrap() == disk.bytes);
    }
}
