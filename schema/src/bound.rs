//! How many bytes a copy can put into a store, all its attempts together: what the engine reserves. It follows
//! from `docs/store-format.md`; a property test of the workers holds the data path to it.

const SECTOR: u64 = 512;
const FANOUT: u64 = 128;
/// Frames of a pack, and the bytes after which it is sealed.
const PACK_FRAMES: u64 = 16_384;
const PACK_BYTES: u64 = 32 << 20;
/// A footer's entry, and a trailer.
const FOOTER: u64 = 64;
/// Header, as many packs as entries, and the entries: of a leaf page, and of one above.
const LEAF: u64 = 24 + FANOUT * (24 + 44);
const INDEX: u64 = 24 + FANOUT * (24 + 76);
/// A root's header and top pages, `ready`, `aborted`.
const MARKERS: u64 = (64 << 10) + 64 + FANOUT * 80 + 2 * 4096;
/// A pack in a root's list.
const ROOT_PACK: u64 = 32;
/// Attempts that may each write pages and a root before one of them succeeds. Extents are sent twice only
/// if the volume changes between attempts; past the bound that is `volume.changed`.
const ATTEMPTS: u64 = 4;

/// The most bytes that a copy puts: of a disk of `virtual_size` bytes, of which at most `allocated` in whole
/// sectors of 512 bytes aren't known to be zeros, into a store with extents of `extent_size`.
pub fn bound(virtual_size: u64, allocated: u64, extent_size: u32) -> u64 {
    let extent_size = u64::from(extent_size).max(SECTOR);
    let allocated = allocated.min(virtual_size);
    let touched = virtual_size.div_ceil(extent_size).min(allocated.div_ceil(SECTOR));
    // An extent is stored in no more than its sectors in use and a bitmap of its sectors.
    let data = allocated.saturating_add(touched.saturating_mul(extent_size / SECTOR / 8 + FOOTER));
    let (leaves, above) = pages(virtual_size.div_ceil(extent_size), touched);
    let frames = touched + leaves + above;
    // Extents and pages each have an open pack, besides those that were full.
    let packs = 2 + data / PACK_BYTES + frames / PACK_FRAMES;
    let metadata = leaves * (LEAF + FOOTER) + above * (INDEX + FOOTER) + packs * FOOTER + frames * ROOT_PACK + MARKERS;
    data.saturating_add(metadata.saturating_mul(ATTEMPTS))
}

/// Stored leaf pages, and those above: at every level no more than there are, nor than extents that aren't zeros.
fn pages(extents: u64, touched: u64) -> (u64, u64) {
    let mut level = extents.div_ceil(FANOUT);
    let leaves = level.min(touched);
    let mut above = 0;
    while level > FANOUT {
        level = level.div_ceil(FANOUT);
        above += level.min(touched);
    }
    (leaves, above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_little_more_than_what_is_allocated() {
        let mib = 1 << 20;
        for (size, allocated, extent_size, most) in [
            (0, 0, 64 << 10, mib),
            (1 << 40, 0, 64 << 10, mib),
            (100 << 30, 5 << 30, 256 << 10, (5 << 30) + (300 << 20)),
            (1 << 40, 1 << 40, 256 << 10, (1 << 40) + (5 << 30)),
            (10 << 20, 99 << 20, 1 << 20, 12 << 20),
        ] {
            let bound = bound(size, allocated, extent_size);
            assert!(bound >= allocated.min(size) && bound <= most, "{size} {allocated}: {bound}, not {most}");
        }
        assert!(bound(u64::MAX, u64::MAX, 1) > 0);
    }
}
