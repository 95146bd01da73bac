//! Whether all that a qcow2 refers to lies within its file. QEMU reads what lies behind a file's end as zeros and says
//! nothing: a file that was cut short would be backed up as zeros. Only tables are read, each once.
//!
//! Format: QEMU's `docs/interop/qcow2.rst`. All integers are big-endian.

use super::qcow2::{Layout, Map, Unusable, u64_at};
use std::{collections::HashSet, fs::File, io, os::unix::fs::FileExt};
use tokio_util::sync::CancellationToken;

/// The bits of an entry that say where the table or cluster begins.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeros, whatever is where it is said to be.
const ZERO: u64 = 1;
/// Compressed clusters are counted in sectors.
const SECTOR: u64 = 512;
/// Subclusters of a cluster with extended L2 entries.
const SUBCLUSTERS: u64 = 32;
/// L1 entries read at once.
const L1_PART: u64 = 8192;

/// Refuses a map that refers to anything at or behind `length`, the file's end. Blocks; gives up when `stop` says so.
pub(super) fn check(file: &File, length: u64, layout: Layout, map: Map, stop: &CancellationToken) -> Result<(), Unusable> {
    let l2 = L2 { layout, length };
    let mut seen = HashSet::new();
    let mut table = vec![0; l2.cluster() as usize];
    // A table may be longer than its image is large: QEMU reads no more of it.
    let entries = map.size.div_ceil(l2.covers()).min(map.l1_entries.into());
    let mut at = 0;
    while at < entries {
        let mut part = vec![0; ((entries - at).min(L1_PART) * 8) as usize];
        l2.within(map.l1_offset.saturating_add(at * 8), part.len() as u64)?;
        file.read_exact_at(&mut part, map.l1_offset + at * 8).map_err(Unusable::Failed)?;
        for entry in part.chunks_exact(8) {
            let offset = u64_at(entry, 0) & OFFSET;
            // A stranger's image may name one table a million times.
            if offset != 0 && seen.insert(offset) {
                if stop.is_cancelled() {
                    return Err(Unusable::Failed(io::Error::other("nobody waits for it any more")));
                }
                l2.within(offset, l2.cluster())?;
                file.read_exact_at(&mut table, offset).map_err(Unusable::Failed)?;
                l2.check(&table, map.size.saturating_sub(at * l2.covers()))?;
            }
            at += 1;
        }
    }
    Ok(())
}

/// What is needed to judge an L2 table.
struct L2 {
    layout: Layout,
    length: u64,
}

impl L2 {
    fn cluster(&self) -> u64 {
        1 << self.layout.cluster_bits
    }

    fn entry(&self) -> u64 {
        if self.layout.extended_l2 { 16 } else { 8 }
    }

    /// Bytes of the image that one table describes.
    fn covers(&self) -> u64 {
        self.cluster() / self.entry() * self.cluster()
    }

    /// `size` is that of the image from the first byte on that the table describes.
    fn check(&self, table: &[u8], size: u64) -> Result<(), Unusable> {
        let entries = table.chunks_exact(self.entry() as usize);
        let seen_by_guest = (0..).map(|n| size.saturating_sub(n * self.cluster()).min(self.cluster()));
        for (entry, seen) in entries.zip(seen_by_guest).take_while(|(_, seen)| *seen > 0) {
            let (offset, bytes) = self.data(entry, seen);
            if bytes > 0 {
                self.within(offset, bytes)?;
            }
        }
        Ok(())
    }

    /// The bytes in the file that an entry can't do without, `seen` being those of its cluster that a guest sees.
    fn data(&self, entry: &[u8], seen: u64) -> (u64, u64) {
        let word = u64_at(entry, 0);
        if word & COMPRESSED != 0 {
            // The number of further sectors is above the offset. Of the last one not all is used: one byte at least.
            let bits = 62 - (self.layout.cluster_bits - 8);
            let offset = word & ((1 << bits) - 1);
            let sectors = (word & !(3 << 62)) >> bits;
            return (offset, (sectors * SECTOR).saturating_sub(offset % SECTOR) + 1);
        }
        let offset = word & OFFSET;
        let bytes = match (offset, self.layout.extended_l2) {
            (0, _) => 0,
            // One bit for each subcluster that has data, from the lowest.
            (_, true) => (u64::from(32 - (u64_at(entry, 8) as u32).leading_zeros()) * self.cluster() / SUBCLUSTERS).min(seen),
            (_, false) if self.layout.zero_flag && word & ZERO != 0 => 0,
            (_, false) => seen,
        };
        (offset, bytes)
    }

    fn within(&self, offset: u64, bytes: u64) -> Result<(), Unusable> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.length => Ok(()),
            end => Err(Unusable::CutOff { length: self.length, end: end.unwrap_or(u64::MAX) }),
        }
    }
}
