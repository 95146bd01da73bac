//! Large disks: several levels of pages, and costs that follow what is allocated and not the size.

use super::rig::{Rig, base};
use crate::{
    datapath::{format::shape::Shape, read::Walk},
    hypervisor::{BlockRead, Extent},
};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::{fault::Fault, ids::OperationId};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

/// A disk that only has a map.
#[derive(Clone)]
struct Map {
    size: u64,
    /// Where a run ends and one of the other kind begins; the first one is zeros.
    edges: BTreeSet<u64>,
}

#[async_trait]
impl BlockRead for Map {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        let (mut at, end) = (offset, offset + bytes);
        let mut zero = self.edges.range(..=offset).count().is_multiple_of(2);
        let mut runs = vec![];
        for edge in self.edges.range(offset + 1..end).copied().chain([end]) {
            runs.push(Extent { offset: at, bytes: edge - at, zero });
            (at, zero) = (edge, !zero);
        }
        Ok(runs)
    }

    async fn read(&self, _offset: u64, _bytes: u32) -> Result<Bytes, Fault> {
        unreachable!("only its map is asked for")
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

proptest! {
    #[test]
    fn spans_cover_a_disk_once_and_mark_what_is_not_known_to_be_zeros(
        size in 1u64..200 << 20,
        edges in prop::collection::btree_set(prop_oneof![0u64..200 << 20, (0u64..50).prop_map(|n| n << 22), (0u64..3200).prop_map(|n| n << 16)], 0..30),
        extent_kib in prop::sample::select(vec![64u32, 256, 4096]),
    ) {
        let map = Map { size, edges };
        let shape = Shape::new(size, extent_kib << 10).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut expected = vec![false; shape.extents() as usize];
            for run in map.extents(0, size).await.unwrap().iter().filter(|run| !run.zero) {
                let extent = u64::from(shape.extent_size());
                expected[(run.offset / extent) as usize..=((run.offset + run.bytes - 1) / extent) as usize].fill(true);
            }
            let mut walk = Walk::new(Arc::new(Box::new(map.clone()) as Box<dyn BlockRead>), shape);
            let mut found = vec![];
            while let Some(span) = walk.next().await.unwrap() {
                prop_assert_eq!(span.first, found.len() as u64);
                prop_assert_eq!(span.first / 128, (span.first + u64::from(span.count) - 1) / 128);
                found.extend((0..span.count).map(|number| span.data.checked_shr(number).unwrap_or(0) & 1 == 1));
            }
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}

/// A disk of any size with one page of data at each of some offsets.
#[derive(Clone)]
struct Sparse {
    size: u64,
    data: BTreeSet<u64>,
    seed: u8,
}

#[async_trait]
impl BlockRead for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        let (mut at, end) = (offset, offset + bytes);
        let mut runs = vec![];
        for start in self.data.range(offset..end) {
            runs.extend((*start > at).then(|| Extent { offset: at, bytes: start - at, zero: true }));
            runs.push(Extent { offset: *start, bytes: 4096, zero: false });
            at = start + 4096;
        }
        runs.extend((end > at).then(|| Extent { offset: at, bytes: end - at, zero: true }));
        Ok(runs)
    }

    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        let mut out = vec![0; bytes as usize];
        for start in self.data.range(offset..offset + u64::from(bytes)) {
            let at = (start - offset) as usize;
            let mut digest = blake3::Hasher::new();
            digest.update(&start.to_le_bytes()).update(&[self.seed]).finalize_xof().fill(&mut out[at..at + 4096]);
        }
        Ok(out.into())
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_scattered_changes_in_a_tebibyte_cost_megabytes_of_metadata() {
    let rig = Rig::new(256).await;
    let size: u64 = 1 << 40;
    let step = size / 4000;
    let mut disk = Sparse { size, data: (0..4000).map(|n| n * step / 4096 * 4096).collect(), seed: 1 };
    let first = OperationId::new();
    let copied = rig.copy_reader(Box::new(disk.clone()), &rig.work(first, 1), None).await.unwrap();
    rig.commit(first, &copied.root).await.unwrap();
    let verified = rig.verify(first, &copied.root).await.unwrap();
    assert_eq!(verified.extents, 4000);
    let added: Vec<u64> = (0..1000).map(|n| (n * size / 1000 + (512 << 10)) / 4096 * 4096).collect();
    disk.data.extend(added);
    let second = OperationId::new();
    let again = rig.copy_reader(Box::new(disk.clone()), &rig.work(second, 1), base(first, &copied)).await.unwrap();
    assert_eq!(again.reused, 4000 * (256 << 10));
    let data = 1000 * (4096 + 64 + 64);
    assert!(again.stored - data < 6 << 20, "{}", again.stored);
    let committed = rig.commit(second, &again.root).await.unwrap();
    assert!(committed.read_back < 8 << 20, "{}", committed.read_back);
    assert_eq!(rig.verify(second, &again.root).await.unwrap().extents, 5000);
    // Grown: the base's levels stay what they are, the new tail is zeros.
    disk.size = 3 << 40;
    let third = OperationId::new();
    let grown = rig.copy_reader(Box::new(disk), &rig.work(third, 1), base(second, &again)).await.unwrap();
    assert_eq!((grown.reused, grown.read), (5000 * (256 << 10), 5000 * (256 << 10)));
    assert!(grown.stored < 100 << 10, "{}", grown.stored);
    rig.commit(third, &grown.root).await.unwrap();
    assert_eq!(rig.verify(third, &grown.root).await.unwrap().extents, 5000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_past_the_limit_is_refused_and_the_largest_costs_nothing_when_empty() {
    let rig = Rig::new(4096).await;
    let disk = |size| Box::new(Sparse { size, data: BTreeSet::from([size - 8192]), seed: 1 });
    let operation = OperationId::new();
    let fault = rig.copy_reader(disk((64 << 40) + 8192), &rig.work(operation, 1), None).await.unwrap_err();
    assert_eq!(fault.code, longshore_schema::fault::code::IMAGE_INVALID);
    let copied = rig.copy_reader(disk(64 << 40), &rig.work(operation, 2), None).await.unwrap();
    assert!(copied.stored < 100 << 10, "{}", copied.stored);
    rig.commit(operation, &copied.root).await.unwrap();
    assert_eq!(rig.verify(operation, &copied.root).await.unwrap().extents, 1);
}
