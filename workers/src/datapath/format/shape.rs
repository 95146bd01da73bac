//! The arithmetic of an object: how many extents it has, and how pages stand above them.

use super::Broken;

/// Entries of a page, at every level.
pub const FANOUT: u64 = 128;
/// What `Shape::with_fanout` takes: powers of two from the one to the other.
const FANOUTS: std::ops::RangeInclusive<u64> = 16..=4096;
/// The largest disk.
pub const MAX_SIZE: u64 = 64 << 40;
/// The smallest extent.
pub const MIN_EXTENT: u32 = 64 << 10;
/// The largest extent.
pub const MAX_EXTENT: u32 = 4 << 20;

/// Size and extent size, which decide the number of everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    size: u64,
    extent_size: u32,
    fanout: u64,
}

impl Shape {
    /// The shape, if the format allows it.
    pub fn new(size: u64, extent_size: u32) -> Result<Shape, Broken> {
        Shape::with_fanout(size, extent_size, FANOUT)
    }

    /// The same with pages of so many entries. The format has `FANOUT`, and nothing that the product writes or reads has others:
    /// only what they would cost is measured.
    pub fn with_fanout(size: u64, extent_size: u32, fanout: u64) -> Result<Shape, Broken> {
        if size > MAX_SIZE {
            return Err(Broken("the disk is larger than 64 TiB"));
        }
        if !extent_size.is_power_of_two() || !(MIN_EXTENT..=MAX_EXTENT).contains(&extent_size) {
            return Err(Broken("the extent size is no power of two from 64 KiB to 4 MiB"));
        }
        if !fanout.is_power_of_two() || !FANOUTS.contains(&fanout) {
            return Err(Broken("the number of a page's entries is no power of two from 16 to 4,096"));
        }
        Ok(Shape { size, extent_size, fanout })
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of every extent but the last.
    pub fn extent_size(&self) -> u32 {
        self.extent_size
    }

    /// Entries of every page but a level's last.
    pub fn fanout(&self) -> u64 {
        self.fanout
    }

    /// Number of extents.
    pub fn extents(&self) -> u64 {
        self.size.div_ceil(u64::from(self.extent_size))
    }

    /// First byte of an extent.
    pub fn offset(&self, extent: u64) -> u64 {
        extent.saturating_mul(u64::from(self.extent_size))
    }

    /// Bytes of an extent; 0 past the end.
    pub fn length(&self, extent: u64) -> u32 {
        let left = self.size.saturating_sub(self.offset(extent)).min(u64::from(self.extent_size));
        u32::try_from(left).unwrap_or(self.extent_size)
    }

    /// Levels of pages below the root: the smallest number whose top has at most as many pages as a page has entries.
    pub fn levels(&self) -> u8 {
        let mut levels = 0;
        let mut count = self.extents();
        while count > self.fanout || (levels == 0 && count > 0) {
            count = count.div_ceil(self.fanout);
            levels += 1;
        }
        levels
    }

    /// Number of pages of a level; level 0 has the extents' entries.
    pub fn pages(&self, level: u8) -> u64 {
        (0..=level).fold(self.extents(), |count, _| count.div_ceil(self.fanout))
    }

    /// Number of entries of one page; 0 past the end.
    pub fn entries(&self, level: u8, index: u64) -> u64 {
        let children = if level == 0 { self.extents() } else { self.pages(level - 1) };
        children.saturating_sub(index.saturating_mul(self.fanout)).min(self.fanout)
    }

    /// Number of pages that the root names.
    pub fn top(&self) -> u64 {
        self.levels().checked_sub(1).map_or(0, |level| self.pages(level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stand_above_extents_as_the_specification_says() {
        for (size, extent_size, extents, levels, top) in [
            (0, 65_536, 0, 0, 0),
            (1, 65_536, 1, 1, 1),
            (128 * 65_536, 65_536, 128, 1, 1),
            (128 * 65_536 + 1, 65_536, 129, 1, 2),
            (1 << 40, 256 << 10, 1 << 22, 3, 2),
            (MAX_SIZE, MIN_EXTENT, 1 << 30, 4, 4),
        ] {
            let shape = Shape::new(size, extent_size).unwrap();
            assert_eq!((shape.extents(), shape.levels(), shape.top()), (extents, levels, top), "{size}");
            let lengths: u64 = (0..extents.min(300)).map(|extent| u64::from(shape.length(extent))).sum();
            assert!(extents > 300 || lengths == size, "{size}");
            assert_eq!(shape.length(extents), 0);
        }
        assert!(Shape::new(MAX_SIZE + 1, MIN_EXTENT).is_err());
        assert!(Shape::new(1, 96 << 10).is_err());
        assert!(Shape::new(1, MIN_EXTENT / 2).is_err());
        assert!(Shape::new(1, MAX_EXTENT * 2).is_err());
    }

    #[test]
    fn more_entries_make_fewer_levels() {
        for (fanout, levels, top) in [(16, 5, 4), (128, 3, 2), (512, 2, 16), (4096, 1, 1024)] {
            let shape = Shape::with_fanout(1 << 40, 256 << 10, fanout).unwrap();
            assert_eq!((shape.levels(), shape.top(), shape.entries(0, 1)), (levels, top, fanout), "{fanout}");
        }
        assert_eq!(Shape::with_fanout(1 << 40, 256 << 10, FANOUT), Shape::new(1 << 40, 256 << 10));
        for fanout in [0, 8, 100, 8192] {
            assert!(Shape::with_fanout(1, MIN_EXTENT, fanout).is_err(), "{fanout}");
        }
    }
}
