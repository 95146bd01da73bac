//! An internal snapshot as an image of its own: a small qcow2 file that lies over the volume's file and replaces
//! only its header, by one whose size and L1 table are the snapshot's. QEMU opens the volume through it.
//!
//! `qemu-nbd --load-snapshot` shows a snapshot in the volume's present size: one that was taken before the
//! volume shrank would lose its end without an error (QEMU 10.0.2).

use super::{
    image::{Member, START},
    qcow2::Snapshot,
};
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the file below that one L1 entry describes: a cluster of 8-byte L2 entries, a cluster each.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// The cluster is in use here only ("COPIED").
const COPIED: u64 = 1 << 63;
/// The overlay's clusters, in order; the L1 table comes last since its length varies.
const REFCOUNT_TABLE: u64 = CLUSTER;
const REFCOUNT_BLOCK: u64 = 2 * CLUSTER;
const L2: u64 = 3 * CLUSTER;
const DATA: u64 = 4 * CLUSTER;
const L1: u64 = 5 * CLUSTER;

/// Writes the overlay of `member`, a qcow2, as it was at `snapshot`. Blocks.
pub(super) fn write_overlay(path: &Path, member: &Member, snapshot: &Snapshot) -> io::Result<()> {
    let l1_entries = member.stamp.length.div_ceil(PER_L1_ENTRY).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let file = File::options().write(true).create_new(true).open(path)?;
    file.set_len(L1 + l1_clusters * CLUSTER)?;
    file.write_all_at(&header(member.stamp.length, l1_entries), 0)?;
    file.write_all_at(&REFCOUNT_BLOCK.to_be_bytes(), REFCOUNT_TABLE)?;
    let references = [0u8, 1].repeat((5 + l1_clusters) as usize);
    file.write_all_at(&references, REFCOUNT_BLOCK)?;
    file.write_all_at(&(L2 | COPIED).to_be_bytes(), L1)?;
    file.write_all_at(&(DATA | COPIED).to_be_bytes(), L2)?;
    let mut start = member.start.clone();
    start.resize(START, 0);
    past_header(&mut start, snapshot);
    file.write_all_at(&start, DATA)
}

/// The overlay's own header: version 3, no features, no backing name (QEMU is told what lies below).
fn header(size: u64, l1_entries: u64) -> Vec<u8> {
    let mut header = super::qcow2::MAGIC.to_vec();
    let mut put = |bytes: &[u8]| header.extend_from_slice(bytes);
    put(&3u32.to_be_bytes());
    put(&[0; 12]);
    put(&CLUSTER_BITS.to_be_bytes());
    put(&size.next_multiple_of(512).to_be_bytes());
    put(&[0; 4]);
    put(&(l1_entries as u32).to_be_bytes());
    put(&L1.to_be_bytes());
    put(&REFCOUNT_TABLE.to_be_bytes());
    put(&1u32.to_be_bytes());
    put(&[0; 12 + 24]);
    put(&4u32.to_be_bytes());
    put(&104u32.to_be_bytes());
    header
}

/// The volume's header as of the snapshot: its size and L1 table, no snapshots, no bitmaps.
fn past_header(start: &mut [u8], snapshot: &Snapshot) {
    start[24..32].copy_from_slice(&snapshot.map.size.to_be_bytes());
    start[36..40].copy_from_slice(&snapshot.map.l1_entries.to_be_bytes());
    start[40..48].copy_from_slice(&snapshot.map.l1_offset.to_be_bytes());
    start[60..72].fill(0);
    if start[7] == 3 {
        start[88..96].fill(0);
    }
}
