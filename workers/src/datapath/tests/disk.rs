//! A volume in memory, with a map of what is allocated, and a draft in memory.

use crate::hypervisor::{BlockRead, BlockWrite, Extent};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::fault::{Fault, code};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::{Arc, Mutex};

/// Granularity of the allocation map.
pub(super) const BLOCK: usize = 4096;

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) bytes: Vec<u8>,
    pub(super) allocated: Vec<bool>,
}

impl Disk {
    pub(super) fn of_size(size: usize) -> Disk {
        Disk { bytes: vec![0; size], allocated: vec![false; size.div_ceil(BLOCK)] }
    }

    /// `kind` 0 writes random bytes, 1 text, 2 explicit zeros, 3 discards.
    pub(super) fn change(&mut self, kind: u8, start: usize, length: usize, seed: u64) {
        let start = start.min(self.bytes.len());
        let end = (start + length).min(self.bytes.len());
        let range = &mut self.bytes[start..end];
        match kind {
            0 => StdRng::seed_from_u64(seed).fill_bytes(range),
            1 => range.iter_mut().enumerate().for_each(|(at, byte)| *byte = b"some text to pack "[(at + seed as usize) % 18]),
            _ => range.fill(0),
        }
        if start < end {
            let blocks = start / BLOCK..=(end - 1) / BLOCK;
            if kind < 3 {
                self.allocated[blocks].fill(true);
            } else {
                for block in blocks {
                    let covered = start <= block * BLOCK && end >= ((block + 1) * BLOCK).min(self.bytes.len());
                    self.allocated[block] &= !covered;
                }
            }
        }
    }

    pub(super) fn resize(&mut self, size: usize) {
        self.bytes.resize(size, 0);
        self.allocated.resize(size.div_ceil(BLOCK), false);
    }

    /// Random bytes everywhere.
    pub(super) fn random(size: usize, seed: u64) -> Disk {
        let mut disk = Disk::of_size(size);
        disk.change(0, 0, size, seed);
        disk
    }

    /// What `volume.measure` would say.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated.iter().filter(|allocated| **allocated).count() as u64 * BLOCK as u64
    }

    pub(super) fn reader(&self) -> Box<dyn BlockRead> {
        Box::new(Reader { disk: self.clone(), vanishes_at: None })
    }

    /// A reader whose volume is gone from that byte on.
    pub(super) fn vanishing_reader(&self, at: u64) -> Box<dyn BlockRead> {
        Box::new(Reader { disk: self.clone(), vanishes_at: Some(at) })
    }
}

struct Reader {
    disk: Disk,
    vanishes_at: Option<u64>,
}

#[async_trait]
impl BlockRead for Reader {
    fn size(&self) -> u64 {
        self.disk.bytes.len() as u64
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        let end = offset + bytes;
        assert!(bytes > 0 && end <= self.size());
        let mut at = offset;
        let mut runs = vec![];
        while at < end {
            let next = ((at / BLOCK as u64 + 1) * BLOCK as u64).min(end);
            let zero = !self.disk.allocated[at as usize / BLOCK];
            runs.push(Extent { offset: at, bytes: next - at, zero });
            at = next;
        }
        Ok(runs)
    }

    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        let end = offset + u64::from(bytes);
        if self.vanishes_at.is_some_and(|at| end > at) {
            return Err(Fault::permanent(code::VOLUME_READ_FAILED, "the volume is gone"));
        }
        Ok(Bytes::copy_from_slice(&self.disk.bytes[offset as usize..end as usize]))
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

/// A fresh image; what is finished is in `finished`.
pub(super) struct Draft {
    pub(super) bytes: Mutex<Vec<u8>>,
    pub(super) finished: Arc<Mutex<Option<Vec<u8>>>>,
}

#[async_trait]
impl BlockWrite for Draft {
    async fn write(&self, offset: u64, data: Bytes) -> Result<(), Fault> {
        let start = offset as usize;
        self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(&data);
        Ok(())
    }

    async fn zero(&self, offset: u64, bytes: u64) -> Result<(), Fault> {
        self.bytes.lock().unwrap()[offset as usize..(offset + bytes) as usize].fill(0);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), Fault> {
        let Draft { bytes, finished } = *self;
        *finished.lock().unwrap() = Some(bytes.into_inner().unwrap());
        Ok(())
    }
}
