//! What a copy puts is never more than what the engine reserved for it.

use super::{
    disk::{BLOCK, Disk},
    rig::{Rig, base},
};
use longshore_schema::{bound::bound, ids::OperationId};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_keeps_to_the_bound_through_every_attempt(
        size in 1usize..4_000_000,
        writes in prop::collection::vec((0u8..2, any::<usize>(), prop_oneof![1usize..600, 1usize..9_000, 1usize..900_000]), 0..40),
        extent_kib in prop::sample::select(vec![64usize, 256, 4096]),
        incremental in any::<bool>(),
        dies_at in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut rig = Rig::new(extent_kib).await;
            let before = Disk::random(size, 1);
            let (first, first_copied) = rig.backup(&before, None).await;
            let mut disk = Disk::of_size(size);
            for (number, (kind, start, length)) in writes.into_iter().enumerate() {
                disk.change(kind, start % size, length, number as u64);
            }
            let limit = bound(size as u64, disk.allocated_bytes(), rig.extent_size);
            rig.may_write = Some(limit);
            let operation = OperationId::new();
            let base = incremental.then(|| base(first, &first_copied)).flatten();
            for attempt in 1..=3 {
                rig.dies_at(dies_at);
                if let Ok(copied) = rig.copy(&disk, operation, attempt, base.clone()).await {
                    prop_assert!(copied.stored <= limit);
                }
            }
            rig.heal();
            let copied = rig.copy(&disk, operation, 4, base).await.unwrap();
            rig.commit(operation, &copied.root).await.unwrap();
            let mut stored = 0;
            for prefix in ["packs", "objects"] {
                stored += rig.keys(&format!("{prefix}/{operation}/")).await.iter().map(|entry| entry.bytes).sum::<u64>();
            }
            prop_assert!(stored <= limit, "{} of {}", stored, limit);
            prop_assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_block_in_every_extent_costs_blocks_and_not_extents() {
    let mut rig = Rig::new(256).await;
    let mut disk = Disk::of_size(64 << 20);
    for extent in 0..256 {
        disk.change(0, extent * (256 << 10) + 5 * BLOCK, BLOCK, extent as u64);
    }
    assert_eq!(disk.allocated_bytes(), 256 * BLOCK as u64);
    let limit = bound(64 << 20, disk.allocated_bytes(), rig.extent_size);
    assert!(limit < 3 << 20, "{limit}");
    rig.may_write = Some(limit);
    let (object, copied) = rig.backup(&disk, None).await;
    assert!(copied.stored < 2 << 20, "{}", copied.stored);
    assert!(rig.restore(object, &copied.root).await.unwrap() == disk.bytes);
}
