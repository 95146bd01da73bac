//! Pages with more or fewer entries than the format has. They are only measured, but what is measured must be a whole object: it
//! comes back bit for bit, and an incremental takes over of it what it should.

use super::{
    disk::Disk,
    rig::{KIB, Rig, base, lease},
};
use crate::datapath::{
    Tuning,
    commit::commit_with_fanout,
    manifest::{load_root, load_root_with_fanout},
    scan::{Sink, scan},
};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::object::{Base, Copied, Root},
};
use std::sync::{Arc, Mutex};

const EXTENT: usize = 64 * KIB;
const EXTENTS: usize = 600;

struct Image(Mutex<Vec<u8>>);

#[async_trait]
impl Sink for Image {
    async fn take(&self, offset: u64, data: Bytes) -> Result<(), Fault> {
        let start = offset as usize;
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(&data);
        Ok(())
    }
}

async fn backup(rig: &Rig, disk: &Disk, base: Option<Base>) -> (OperationId, Copied) {
    let operation = OperationId::new();
    let copied = rig.copy(disk, operation, 1, base).await.unwrap();
    commit_with_fanout(&rig.work(operation, 1), &copied.root, rig.tuning.fanout).await.unwrap();
    (operation, copied)
}

async fn restore(rig: &Rig, object: OperationId, root: &Root) -> Vec<u8> {
    let root = load_root_with_fanout(&rig.store, object, root, rig.tuning.fanout).await.unwrap();
    let image = Arc::new(Image(Mutex::new(vec![0; EXTENTS * EXTENT])));
    scan(&rig.store, &lease(object, 1), &root, image.clone()).await.unwrap();
    std::mem::take(&mut *image.0.lock().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_other_pages_is_whole_and_the_formats_reader_refuses_it() {
    for fanout in [16, 64, 512] {
        let mut rig = Rig::new(64).await;
        rig.tuning = Tuning { fanout, ..Tuning::default() };
        let mut disk = Disk::of_size(EXTENTS * EXTENT);
        for number in (0..EXTENTS).step_by(7) {
            disk.change(1, number * EXTENT, 5_000, number as u64);
        }
        let (first, copied) = backup(&rig, &disk, None).await;
        assert!(restore(&rig, first, &copied.root).await == disk.bytes, "{fanout}");
        disk.change(0, 301 * EXTENT, EXTENT, 9);
        let (second, again) = backup(&rig, &disk, base(first, &copied)).await;
        let taken_over = (0..EXTENTS).step_by(7).filter(|number| *number != 301).count() * EXTENT;
        assert_eq!((again.reused, again.without_base), (taken_over as u64, false), "{fanout}");
        assert!(restore(&rig, second, &again.root).await == disk.bytes, "{fanout}");
        let fault = load_root(&rig.store, second, &again.root).await.unwrap_err();
        assert_eq!(fault.code, code::OBJECT_CORRUPT, "{fanout}");
    }
}
