//! A store that damages what it is given, and checks nothing: it never gets an object that counts.

use super::{
    disk::Disk,
    rig::{Rig, base},
};
use crate::store::flaky::{Flaky, Harm, Rule, Verb};
use longshore_schema::{fault::code, ids::OperationId};
use std::sync::Arc;

/// Raw, packed and sparse extents, and pages of two levels.
fn example() -> Disk {
    let mut disk = Disk::of_size(150 * 65_536);
    disk.change(0, 0, 300_000, 1);
    disk.change(1, 500_000, 300_000, 1);
    (900_000..1_000_000).step_by(1024).for_each(|sector| disk.change(0, sector, 512, sector as u64));
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_pack_is_found_before_the_object_counts_if_everything_is_read_back() {
    let disk = example();
    let mut missed = 0;
    for (read_back, pack, bit) in
        (0..120).flat_map(|number| [true, false].map(|read_back| (read_back, number % 2, number * 7_919 * 8 + number)))
    {
        let mut rig = Rig::new(64).await;
        rig.read_back = read_back;
        let rule = Rule { verb: Verb::Put, key: "packs/".into(), from: pack, times: 1, harm: Harm::Flip(bit) };
        rig.store = Arc::new(Flaky::scripted(rig.store.clone(), vec![rule]));
        let operation = OperationId::new();
        let root = match rig.copy(&disk, operation, 1, None).await {
            Ok(copied) => rig.commit(operation, &copied.root).await.map(|it| it.root),
            Err(fault) => Err(fault),
        };
        match root {
            Err(fault) => assert_eq!(fault.code, code::OBJECT_CORRUPT, "{fault}"),
            // A few bits of zstd's headers say nothing.
            Ok(root) if read_back => assert!(rig.restore(operation, &root).await.unwrap() == disk.bytes, "{pack} {bit}"),
            Ok(root) => missed += usize::from(rig.restore(operation, &root).await.is_err()),
        }
    }
    assert!(missed > 40, "{missed}: without reading back most of it isn't seen, or this test shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_of_attempts_that_died_are_read_back_too_and_those_of_the_base_are_not() {
    let mut rig = Rig::new(64).await;
    let (first, copied) = rig.backup(&example(), None).await;
    rig.read_back = true;
    let mut disk = example();
    disk.change(0, 4 << 20, 1 << 20, 9);
    let operation = OperationId::new();
    rig.dies_at(1);
    rig.copy(&disk, operation, 1, base(first, &copied)).await.unwrap_err();
    rig.heal();
    let left = rig.keys(&format!("packs/{operation}/")).await;
    let path = rig.path(&left[0].key);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[1000] ^= 1;
    std::fs::write(&path, bad).unwrap();
    let fault = rig.copy(&disk, operation, 2, base(first, &copied)).await.unwrap_err();
    assert_eq!(fault.code, code::OBJECT_CORRUPT, "{fault}");
    std::fs::write(&path, good).unwrap();
    let whole = rig.copy(&disk, operation, 3, base(first, &copied)).await.unwrap();
    assert!(whole.read_back >= 1 << 20 && whole.read_back < 3 << 19, "{}", whole.read_back);
    rig.commit(operation, &whole.root).await.unwrap();
    assert!(rig.restore(operation, &whole.root).await.unwrap() == disk.bytes);
}
