//! Copies of objects in other stores: the same bytes, and with the same extents the same digests; nothing is read or sent
//! that needn't be, and nothing damaged arrives.

use super::{
    disk::Disk,
    rig::{KIB, Rig, base},
};
use crate::{
    datapath::{format::pack::Kind, manifest::load_root, object::ObjectReader, resume::read_footer},
    hypervisor::BlockRead,
};
use longshore_schema::{
    bound::bound,
    fault::{Class, code},
    ids::OperationId,
    steps::object::{Base, Copied},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A committed copy of an object of another store, under a new id.
async fn transferred(
    from: &Rig,
    (object, copied): (OperationId, &Copied),
    to: &Rig,
    base: Option<Base>,
) -> (OperationId, Copied) {
    let operation = OperationId::new();
    let made = to.transfer(&from.source(object, &copied.root), &to.work(operation, 1), base).await.unwrap();
    assert_eq!(to.commit(operation, &made.root).await.unwrap().root, made.root);
    (operation, made)
}

/// Bytes that were got from a store so far.
fn got(rig: &Rig) -> u64 {
    rig.watched.watch.lock().unwrap().got
}

/// How each extent of an object is kept: digest, codec and stored bytes.
async fn frames(rig: &Rig, object: OperationId, copied: &Copied) -> BTreeMap<u64, Vec<(String, u8, u32)>> {
    let root = load_root(&rig.store, object, &copied.root).await.unwrap();
    let mut frames = BTreeMap::<u64, Vec<_>>::new();
    for pack in &root.packs {
        for frame in read_footer(&rig.store, pack).await.unwrap().into_iter().filter(|it| it.kind == Kind::Extent) {
            let kept = (frame.digest.to_hex().to_string(), frame.codec.number(), frame.stored);
            frames.entry(frame.index).or_default().push(kept);
        }
    }
    frames
}

/// Raw, packed and sparse extents, zeros within and between, pages of several levels' worth, and a last extent that is short.
fn example() -> Disk {
    let mut disk = Disk::of_size((40 << 20) + 4608);
    disk.change(0, 0, 900_000, 1);
    disk.change(1, 2 << 20, 3 << 20, 1);
    (6 << 20..7 << 20).step_by(2048).for_each(|sector| disk.change(0, sector, 512, sector as u64));
    disk.change(2, 8 << 20, 2 << 20, 0);
    disk.change(0, 33 << 20, 5 << 20, 2);
    disk.change(0, 40 << 20, 4608, 3);
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_the_bytes_of_its_source_and_with_the_same_extents_its_digests_and_its_frames() {
    for (from_kib, to_kib) in [(64, 64), (256, 256), (64, 256), (256, 64), (64, 4096), (4096, 64)] {
        let (from, to, back) = (Rig::new(from_kib).await, Rig::new(to_kib).await, Rig::new(from_kib).await);
        let mut disk = example();
        let (first, first_copied) = from.backup(&disk, None).await;
        disk.change(0, 34 << 20, 300_000, 9);
        disk.change(3, 2 << 20, 1 << 20, 0);
        // Its packs are of two operations.
        let (object, copied) = from.backup(&disk, base(first, &first_copied)).await;
        let (made, copy) = transferred(&from, (object, &copied), &to, None).await;
        let what = format!("{from_kib} to {to_kib} KiB");
        assert!(to.restore(made, &copy.root).await.unwrap() == disk.bytes, "{what}");
        assert_eq!(to.verify(made, &copy.root).await.unwrap().digest, copy.digest, "{what}");
        assert_eq!(copy.digest == copied.digest, from_kib == to_kib, "{what}");
        assert_eq!((copy.reused, copy.resumed), (0, 0), "{what}");
        let root = load_root(&to.store, made, &copy.root).await.unwrap();
        assert!(root.packs.iter().all(|pack| pack.id.operation == made), "{what}: it needs somebody else's packs");
        if from_kib == to_kib {
            let (were, are) = (frames(&from, object, &copied).await, frames(&to, made, &copy).await);
            assert!(are.iter().all(|(extent, kept)| kept.len() == 1 && were[extent].contains(&kept[0])), "{what}");
            assert_eq!((copy.read, copy.zeros), (disk.bytes.len() as u64 - copied.zeros, copied.zeros), "{what}");
        }
        // A copy of the copy, in a store like the first one, is what the first one was.
        let (again, copy) = transferred(&to, (made, &copy), &back, None).await;
        assert_eq!(copy.digest, copied.digest, "{what} and back");
        assert!(back.restore(again, &copy.root).await.unwrap() == disk.bytes, "{what} and back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_base_only_what_changed_is_sent_and_with_the_same_extents_only_that_is_read() {
    for to_kib in [64, 256] {
        let (from, to) = (Rig::new(64).await, Rig::new(to_kib).await);
        let mut disk = example();
        let (first, first_copied) = from.backup(&disk, None).await;
        let (first_made, first_copy) = transferred(&from, (first, &first_copied), &to, None).await;
        disk.change(0, 35 << 20, 1, 9);
        let (object, copied) = from.backup(&disk, base(first, &first_copied)).await;
        let before = got(&from);
        let (made, copy) = transferred(&from, (object, &copied), &to, base(first_made, &first_copy)).await;
        let read = got(&from) - before;
        assert!(copy.stored < 600 * KIB as u64, "{to_kib}: {} stored", copy.stored);
        assert_eq!(copy.reused, (disk.bytes.len() - to_kib * KIB) as u64 - copy.zeros, "{to_kib}");
        if to_kib == 64 {
            assert_eq!(copy.read, 64 << 10);
            assert!(read < 200 * KIB as u64, "{read} bytes were read for one extent that changed");
        }
        let because = copy.because.as_ref().unwrap();
        assert!(because.starts_with("incremental") && because.contains("digests") == (to_kib == 64), "{because}");
        assert!(to.restore(made, &copy.root).await.unwrap() == disk.bytes, "{to_kib}");
        assert!(to.restore(first_made, &first_copy.root).await.unwrap() == example().bytes, "{to_kib}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_dies_at_any_put_sends_nothing_sealed_again_and_reads_nothing_of_it() {
    let disk = Disk::random(80 << 20, 7);
    for to_kib in [64, 256] {
        let from = Rig::new(64).await;
        let (object, copied) = from.backup(&disk, None).await;
        let source = from.source(object, &copied.root);
        let whole = Rig::new(to_kib).await;
        let (_, expected) = transferred(&from, (object, &copied), &whole, None).await;
        let puts = whole.watched.watch.lock().unwrap().puts.len() - 1;
        assert!(puts >= 4, "{puts}");
        for dies_at in 0..puts {
            let to = Rig::new(to_kib).await;
            let operation = OperationId::new();
            to.dies_at(dies_at);
            let fault = to.transfer(&source, &to.work(operation, 1), None).await.unwrap_err();
            assert_eq!((fault.code.as_str(), fault.class), (code::STORE_UNAVAILABLE, Class::Transient));
            let sealed: u64 = to.keys("packs/").await.iter().map(|entry| entry.bytes).sum();
            to.heal();

            let before = got(&from);
            let copy = to.transfer(&source, &to.work(operation, 2), None).await.unwrap();
            assert_eq!(copy.digest, expected.digest);
            let pages = 200 * KIB as u64;
            assert!(copy.stored <= expected.stored - sealed + pages, "{} sent again after {sealed}", copy.stored);
            if to_kib == 64 {
                let read = got(&from) - before;
                assert!(read <= (80 << 20) - copy.resumed + 4 * pages, "{read} read again, and {} was there", copy.resumed);
            }
            to.commit(operation, &copy.root).await.unwrap();
            assert!(to.restore(operation, &copy.root).await.unwrap() == disk.bytes);
            // Done twice, it leaves what once leaves.
            let left = to.keys("").await;
            let twice = to.transfer(&source, &to.work(operation, 2), None).await.unwrap();
            assert_eq!(twice.root, copy.root);
            assert_eq!(to.keys("").await, left);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_source_is_found_and_named_and_its_copy_gets_no_root() {
    for to_kib in [64, 256] {
        let from = Rig::new(64).await;
        let disk = example();
        let (object, copied) = from.backup(&disk, None).await;
        let source = from.source(object, &copied.root);
        let mut keys: Vec<_> = from.keys("packs/").await.into_iter().map(|entry| entry.key).collect();
        keys.push(format!("objects/{object}/1.manifest"));
        assert_eq!(keys.len(), 3);
        for key in keys {
            let path = from.path(&key);
            let good = std::fs::read(&path).unwrap();
            let mut flipped = good.clone();
            flipped[good.len() / 3] ^= 1;
            for (bad, wanted) in [(Some(flipped), code::OBJECT_CORRUPT), (Some(vec![]), ""), (None, code::OBJECT_MISSING)] {
                match bad {
                    Some(bad) => std::fs::write(&path, bad).unwrap(),
                    None => std::fs::remove_file(&path).unwrap(),
                }
                let to = Rig::new(to_kib).await;
                let operation = OperationId::new();
                let fault = to.transfer(&source, &to.work(operation, 1), None).await.unwrap_err();
                assert_eq!(fault.class, Class::Permanent, "{key}: {fault}");
                assert!(wanted.is_empty() || fault.code == wanted, "{key}: {fault}");
                assert!(fault.message.starts_with(&format!("read object {object} in store main: ")), "{fault}");
                assert_eq!(to.keys("objects/").await, [], "{key}");
                std::fs::write(&path, &good).unwrap();
            }
        }
        std::fs::remove_file(from.path(&format!("objects/{object}/ready"))).unwrap();
        let to = Rig::new(to_kib).await;
        let fault = to.transfer(&source, &to.work(OperationId::new(), 1), None).await.unwrap_err();
        assert_eq!(fault.code, code::OBJECT_MISSING, "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_a_copy_stores_keeps_to_its_bound_through_every_attempt(
        size in 1usize..6_000_000,
        writes in prop::collection::vec((0u8..2, any::<usize>(), prop_oneof![1usize..600, 1usize..9_000, 1usize..900_000]), 0..40),
        from_kib in prop::sample::select(vec![64usize, 256, 4096]),
        to_kib in prop::sample::select(vec![64usize, 256, 4096]),
        dies_at in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let (from, mut to) = (Rig::new(from_kib).await, Rig::new(to_kib).await);
            let mut disk = Disk::of_size(size);
            for (number, (kind, start, length)) in writes.into_iter().enumerate() {
                disk.change(kind, start % size, length, number as u64);
            }
            let (object, copied) = from.backup(&disk, None).await;
            let source = from.source(object, &copied.root);
            let limit = bound(size as u64, size as u64 - copied.zeros, to.extent_size);
            to.may_write = Some(limit);
            let operation = OperationId::new();
            for attempt in 1..=3 {
                to.dies_at(dies_at);
                // Whether it ends depends on how many puts there are.
                drop(to.transfer(&source, &to.work(operation, attempt), None).await);
            }
            to.heal();
            let copy = to.transfer(&source, &to.work(operation, 4), None).await.unwrap();
            to.commit(operation, &copy.root).await.unwrap();
            let stored: u64 = to.keys("").await.iter().map(|entry| entry.bytes).sum();
            prop_assert!(stored <= limit, "{} of {}", stored, limit);
            prop_assert!(to.restore(operation, &copy.root).await.unwrap() == disk.bytes);
            Ok(())
        })?;
    }

    #[test]
    fn an_object_reads_like_the_disk_that_it_is(
        size in 1usize..30_000_000,
        writes in prop::collection::vec((0u8..4, any::<usize>(), prop_oneof![1usize..600, 1usize..900_000]), 0..8),
        reads in prop::collection::vec((any::<usize>(), 1usize..5_000_000), 1..12),
        extent_kib in prop::sample::select(vec![64usize, 1024]),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let rig = Rig::new(extent_kib).await;
            let mut disk = Disk::of_size(size);
            for (number, (kind, start, length)) in writes.into_iter().enumerate() {
                disk.change(kind, start % size, length, number as u64);
            }
            let (object, copied) = rig.backup(&disk, None).await;
            let reader = ObjectReader::open(&rig.source(object, &copied.root), "main").await.unwrap();
            prop_assert_eq!(reader.size(), size as u64);
            for (start, length) in reads {
                let start = start % size;
                let length = length.min(size - start);
                let wanted = &disk.bytes[start..start + length];
                prop_assert!(reader.read(start as u64, length as u32).await.unwrap() == wanted);
                let mut at = start;
                for run in reader.extents(start as u64, length as u64).await.unwrap() {
                    prop_assert_eq!(run.offset, at as u64);
                    let end = at + run.bytes as usize;
                    prop_assert!(run.bytes > 0 && end <= start + length);
                    prop_assert!(!run.zero || disk.bytes[at..end].iter().all(|byte| *byte == 0));
                    at = end;
                }
                prop_assert_eq!(at, start + length);
            }
            Ok(())
        })?;
    }
}
