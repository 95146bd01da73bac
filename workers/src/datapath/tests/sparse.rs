//! Packs of which little is used any more: what a new object needs of them is stored again, and they can go.

use super::{
    disk::Disk,
    rig::{KIB, Rig, base},
};
use crate::datapath::{commit, manifest::load_root};
use longshore_schema::{
    ids::{OperationId, PackId},
    steps::object::{Base, Copied},
};

const EXTENT: usize = 64 * KIB;

/// A disk in two backups: the second one needs the first ten of the first one's 300 extents.
async fn two_backups(rig: &Rig) -> (Disk, OperationId, OperationId, Copied) {
    let mut disk = Disk::random(300 * EXTENT, 1);
    let (first, copied) = rig.backup(&disk, None).await;
    assert_eq!(copied.sparse, [], "a full copy needs all of its packs");
    disk.change(0, 10 * EXTENT, 290 * EXTENT, 2);
    let (second, copied) = rig.backup(&disk, base(first, &copied)).await;
    (disk, first, second, copied)
}

fn packs_of(copied: &[PackId], operation: OperationId) -> Vec<&PackId> {
    copied.iter().filter(|pack| pack.operation == operation).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_needed_of_sparse_packs_is_stored_again_and_they_can_go() {
    let rig = Rig::new(64).await;
    let (disk, first, second, copied) = two_backups(&rig).await;
    assert_eq!(packs_of(&copied.sparse, first).len(), 1, "{:?}", copied.sparse);
    let (third, again) = rig.backup(&disk, base(second, &copied)).await;
    assert_eq!((again.repacked, again.reused), (10 * EXTENT as u64, 290 * EXTENT as u64));
    assert_eq!(again.digest, copied.digest);
    let root = load_root(&rig.store, third, &again.root).await.unwrap();
    assert!(root.packs.iter().all(|pack| pack.id.operation != first), "{:?}", root.packs);
    assert_eq!(packs_of(&again.dropped, first).len(), 1, "{:?}", again.dropped);

    commit::unlink(&rig.work(first, 2)).await.unwrap();
    for pack in rig.keys(&format!("packs/{first}/")).await {
        rig.store.delete(&pack.key).await.unwrap();
    }
    assert!(rig.restore(second, &copied.root).await.is_err(), "the second one needed the first one's pack");
    assert!(rig.restore(third, &again.root).await.unwrap() == disk.bytes);
    rig.verify(third, &again.root).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_leave_sparse_packs_with_everything_above_them() {
    // Two levels of pages: more than 128 * 128 extents.
    let rig = Rig::new(64).await;
    let mut disk = Disk::of_size(17_000 * EXTENT);
    for leaf in 0..130 {
        disk.change(1, leaf * 128 * EXTENT, 5_000, leaf as u64);
    }
    let (first, copied) = rig.backup(&disk, None).await;
    let pages: Vec<PackId> = copied.packs.iter().map(|pack| pack.id.clone()).collect();
    let sparse = Some(Base { object: first, root: copied.root.clone(), sparse: vec![pages[1].clone()] });
    let (second, again) = rig.backup(&disk, sparse).await;
    assert_eq!((again.repacked, again.digest), (0, copied.digest), "no extent moves because its page does");
    let root = load_root(&rig.store, second, &again.root).await.unwrap();
    let used: Vec<_> = root.packs.iter().map(|pack| &pack.id).collect();
    assert!(used.contains(&&pages[0]) && !used.contains(&&pages[1]), "{used:?}");
    rig.store.delete(&pages[1].key()).await.unwrap();
    assert!(rig.restore(second, &again.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_attempt_stored_again_before_it_died_is_not_sent_a_third_time() {
    let rig = Rig::new(64).await;
    let (disk, _, second, copied) = two_backups(&rig).await;
    let operation = OperationId::new();
    // Extents fill the first pack, pages the second.
    rig.dies_at(1);
    rig.copy(&disk, operation, 1, base(second, &copied)).await.unwrap_err();
    rig.heal();
    let again = rig.copy(&disk, operation, 2, base(second, &copied)).await.unwrap();
    assert_eq!((again.resumed, again.repacked), (10 * EXTENT as u64, 0));
    rig.commit(operation, &again.root).await.unwrap();
    assert!(rig.restore(operation, &again.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_that_is_gone_or_cut_short_is_not_inherited() {
    for cut_to in [None, Some(1000)] {
        let rig = Rig::new(64).await;
        let mut disk = Disk::random(40 * EXTENT, 1);
        let (first, copied) = rig.backup(&disk, None).await;
        let pack = rig.path(&format!("packs/{first}/1-0"));
        match cut_to {
            None => std::fs::remove_file(&pack).unwrap(),
            Some(length) => std::fs::File::options().write(true).open(&pack).unwrap().set_len(length).unwrap(),
        }
        disk.change(0, 0, EXTENT, 2);
        let (second, again) = rig.backup(&disk, base(first, &copied)).await;
        assert_eq!((again.repacked, again.reused), (39 * EXTENT as u64, 0));
        let because = again.because.as_ref().unwrap();
        assert!(because.contains("1 of base") && because.contains("1-0") && !again.without_base, "{because}");
        assert!(rig.restore(second, &again.root).await.unwrap() == disk.bytes);
        rig.verify(second, &again.root).await.unwrap();
        let (_, third) = rig.backup(&disk, base(second, &again)).await;
        assert_eq!((third.repacked, third.reused), (0, 40 * EXTENT as u64), "the damage has ended");
    }
}
