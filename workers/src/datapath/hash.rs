//! What is asked of an extent's bytes: are they zeros, which sectors are not, and what is their digest.
//! Slices are compared with a static run of zeros, which is `memcmp` and therefore as quick as memory.

use super::format::{Hash, shape::MAX_EXTENT};

/// Bytes of a sector, the unit of `Codec::Sparse`.
pub const SECTOR: usize = 512;
static ZEROS: [u8; MAX_EXTENT as usize] = [0; MAX_EXTENT as usize];

/// Whether every byte is zero.
pub fn is_zero(data: &[u8]) -> bool {
    data.chunks(ZEROS.len()).all(|part| *part == ZEROS[..part.len()])
}

/// The bytes in sectors that aren't all zeros.
pub fn bytes_in_use(data: &[u8]) -> usize {
    data.chunks(SECTOR).filter(|sector| !is_zero(sector)).map(<[u8]>::len).sum()
}

/// BLAKE3.
pub fn digest(data: &[u8]) -> Hash {
    blake3::hash(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_makes_an_extent_differ_from_zeros() {
        let mut data = vec![0; MAX_EXTENT as usize + 700];
        assert!(is_zero(&data) && is_zero(&[]));
        for at in [0, 511, 512, MAX_EXTENT as usize, data.len() - 1] {
            data[at] = 1;
            assert!(!is_zero(&data), "{at}");
            assert_eq!(bytes_in_use(&data), if at == data.len() - 1 { 700 - 512 } else { 512 });
            data[at] = 0;
        }
    }
}
