//! Large disks: several levels of pages, and costs that follow what is allocated and not the size.

use super::rig::{Rig, base};
use crate::hypervisor::{BlockRead, Extent};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::{fault::Fault, ids::OperationId};
use std::collections::BTreeSet;

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
