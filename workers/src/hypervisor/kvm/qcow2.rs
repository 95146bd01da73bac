//! The header and the snapshot table of a qcow2 file, read and judged before any tool of QEMU's opens it. Where its
//! clusters lie is `whole`'s to judge.
//!
//! Format: QEMU's `docs/interop/qcow2.rst`. All integers are big-endian.

use std::{fs::File, io, os::unix::fs::FileExt};

/// "QFI\xfb".
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a version 2 header, and where version 3 goes on.
const HEADER_2: usize = 72;
const HEADER_3: usize = 104;
/// Incompatible feature bits: dirty, corrupt, external data file, compression type, extended L2 entries.
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = 0b11111;
/// Header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Limits that QEMU itself has.
const MAX_SNAPSHOTS: u32 = 65536;
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_BACKING_NAME: u64 = 1023;
const MAX_SNAPSHOT_EXTRA: u32 = 1024;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The file that lies below, as the header names it.
    pub(super) backing: Option<String>,
    /// That file's format, if the header says so.
    pub(super) backing_format: Option<String>,
    /// Internal snapshots, in the table's order.
    pub(super) snapshots: Vec<Snapshot>,
    /// How its tables are to be read.
    pub(super) layout: Layout,
    /// Where the image as it is has its clusters.
    pub(super) map: Map,
}

/// How the tables of a file are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// A cluster has 2 to the power of this many bytes: 9 to 21.
    pub(super) cluster_bits: u32,
    /// L2 entries have 16 bytes: a bitmap of subclusters goes with each.
    pub(super) extended_l2: bool,
    /// An L2 entry's lowest bit says that the cluster reads as zeros (since version 3).
    pub(super) zero_flag: bool,
}

/// Where an image, as it is or as it was at a snapshot, has its clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Map {
    /// Bytes that a guest sees.
    pub(super) size: u64,
    /// Where the L1 table is in the file.
    pub(super) l1_offset: u64,
    /// Entries of that table.
    pub(super) l1_entries: u32,
}

/// One internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// What QEMU counts it by: unique in its file.
    pub(super) id: String,
    /// The name that people give it; several may have the same.
    pub(super) name: String,
    /// Where the image had its clusters then.
    pub(super) map: Map,
}

/// Why a header can't be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// What is wrong with the image.
    Invalid(String),
    /// The file ends before something that it refers to.
    CutOff {
        /// Where the file ends.
        length: u64,
        /// Where what it refers to would end.
        end: u64,
    },
    /// Reading the file failed.
    Failed(io::Error),
}

/// Reads and checks the header. `start` is the beginning of the file, at least its first 64 KiB or all of it.
pub(super) fn read(file: &File, start: &[u8], length: u64) -> Result<Header, Unusable> {
    let invalid = |what: String| Err(Unusable::Invalid(what));
    if start.len() < HEADER_2 {
        return invalid("the qcow2 header is cut off".into());
    }
    let version = u32_at(start, 4);
    let (features, header_length) = match version {
        2 => (0, HEADER_2),
        3 if start.len() >= HEADER_3 => (u64_at(start, 72), u32_at(start, 100) as usize),
        other => return invalid(format!("qcow2 version {other} is not known, or its header is cut off")),
    };
    let (cluster_bits, size) = (u32_at(start, 20), u64_at(start, 24));
    if !(9..=21).contains(&cluster_bits) || size > i64::MAX as u64 / 2 {
        return invalid(format!("absurd qcow2 header: clusters of 2^{cluster_bits} bytes, size {size}"));
    }
    let cluster = 1u64 << cluster_bits;
    if features & EXTERNAL_DATA != 0 {
        return invalid("the qcow2 keeps its data in an external file".into());
    }
    if features & CORRUPT != 0 {
        return invalid("the qcow2 is marked as corrupt".into());
    }
    if features & !KNOWN != 0 {
        return invalid(format!("the qcow2 has unknown features {:#x}", features & !KNOWN));
    }
    if u32_at(start, 32) != 0 {
        return invalid("the qcow2 is encrypted".into());
    }
    let (l1_entries, l1_offset) = (u32_at(start, 36), u64_at(start, 40));
    let l1_bytes = u64::from(l1_entries) * 8;
    if l1_bytes > MAX_L1_BYTES || l1_offset.checked_add(l1_bytes).is_none_or(|end| end > length) {
        return invalid("the qcow2's L1 table is outside of the file".into());
    }
    if header_length < HEADER_2 || header_length as u64 > cluster {
        return invalid(format!("a qcow2 header of {header_length} bytes"));
    }
    let start = &start[..start.len().min(cluster as usize)];
    let backing = backing_name(start, u64_at(start, 8), u32_at(start, 16)).map_err(Unusable::Invalid)?;
    let backing_format = backing_format(start, header_length).map_err(Unusable::Invalid)?;
    let snapshots = snapshots(file, u64_at(start, 64), u32_at(start, 60), size, length)?;
    let layout = Layout { cluster_bits, extended_l2: features & EXTENDED_L2 != 0, zero_flag: version >= 3 };
    Ok(Header { backing, backing_format, snapshots, layout, map: Map { size, l1_offset, l1_entries } })
}

fn backing_name(start: &[u8], offset: u64, bytes: u32) -> Result<Option<String>, String> {
    if offset == 0 {
        return Ok(None);
    }
    let bytes = u64::from(bytes);
    let within = offset.checked_add(bytes).is_some_and(|end| end <= start.len() as u64) && bytes <= MAX_BACKING_NAME;
    if !within || bytes == 0 {
        return Err("the qcow2's backing file name is outside of its header".into());
    }
    let name = std::str::from_utf8(&start[offset as usize..(offset + bytes) as usize]);
    name.map(|it| Some(it.to_owned())).map_err(|_| "the qcow2's backing file name is not UTF-8".into())
}

fn backing_format(start: &[u8], mut at: usize) -> Result<Option<String>, String> {
    while let Some(head) = start.get(at..at + 8) {
        let (kind, bytes) = (u32_at(head, 0), u32_at(head, 4) as usize);
        match kind {
            0 => return Ok(None),
            BACKING_FORMAT => {
                let name = start.get(at + 8..at + 8 + bytes).and_then(|it| std::str::from_utf8(it).ok());
                return name.map(|it| Some(it.to_owned())).ok_or_else(|| "the qcow2's backing format is not readable".into());
            }
            // Version 2 images may have anything here; QEMU stops at what leaves the cluster.
            _ => at += 8 + bytes.next_multiple_of(8),
        }
    }
    Ok(None)
}

fn snapshots(file: &File, mut at: u64, count: u32, size: u64, length: u64) -> Result<Vec<Snapshot>, Unusable> {
    if count > MAX_SNAPSHOTS {
        return Err(Unusable::Invalid(format!("the qcow2 claims to have {count} snapshots")));
    }
    let mut found = Vec::new();
    for _ in 0..count {
        let mut entry = [0; 40];
        read_within(file, &mut entry, at, length)?;
        let (id_bytes, name_bytes) = (usize::from(u16_at(&entry, 12)), usize::from(u16_at(&entry, 14)));
        let extra = u32_at(&entry, 36);
        let (l1_offset, l1_entries) = (u64_at(&entry, 0), u32_at(&entry, 8));
        if extra > MAX_SNAPSHOT_EXTRA || u64::from(l1_entries) * 8 > MAX_L1_BYTES {
            return Err(absurd_snapshots());
        }
        let mut rest = vec![0; extra as usize + id_bytes + name_bytes];
        read_within(file, &mut rest, at + 40, length)?;
        let (id, name) = rest[extra as usize..].split_at(id_bytes);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (id, name) = (text(id), text(name));
        // Extra data: the VM state's size, then the disk's, then more. Old images lack it and never changed their size.
        let size = if extra >= 16 { u64_at(&rest, 8) } else { size };
        if size > i64::MAX as u64 / 2 {
            return Err(absurd_snapshots());
        }
        found.push(Snapshot { id, name, map: Map { size, l1_offset, l1_entries } });
        at = (at + 40 + rest.len() as u64).next_multiple_of(8);
    }
    Ok(found)
}

fn read_within(file: &File, into: &mut [u8], at: u64, length: u64) -> Result<(), Unusable> {
    match at.checked_add(into.len() as u64).is_some_and(|end| end <= length) {
        true => file.read_exact_at(into, at).map_err(Unusable::Failed),
        false => Err(absurd_snapshots()),
    }
}

fn absurd_snapshots() -> Unusable {
    Unusable::Invalid("the qcow2's snapshot table is cut off, or absurd".into())
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (u64::from(u32_at(bytes, at)) << 32) | u64::from(u32_at(bytes, at + 4))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
