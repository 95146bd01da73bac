//! temporary

/// temporary
pub fn copy_bound(virtual_size: u64, allocated: u64, extent_size: u32) -> u64 {
    allocated.min(virtual_size) + u64::from(extent_size) + virtual_size / 512 + (1 << 20)
}
