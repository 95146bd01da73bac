//! The bytes of the store format, version 1: packs, pages, roots and markers, encoded and decoded without
//! I/O. `docs/store-format.md` specifies them. **Invariant**: decoding never panics and never allocates more
//! than a small multiple of its input, whatever the input is.

mod fields;
pub mod pack;
pub mod page;
pub mod ready;
pub mod root;
pub mod shape;

pub use blake3::Hash;
use longshore_schema::{
    fault::{Fault, code},
    ids::{OperationId, PackId},
};

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// A pack is never longer; what a reader may refuse.
pub const MAX_PACK_BYTES: u64 = 128 << 20;

/// How bytes are kept in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
    /// A bitmap of the 512-byte sectors that aren't zeros, then those sectors.
    Sparse,
}

impl Codec {
    /// Its number in the format.
    pub fn number(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Zstd => 1,
            Codec::Sparse => 2,
        }
    }

    /// The codec of a number.
    pub fn of(number: u8) -> Result<Codec, Broken> {
        [Codec::Raw, Codec::Zstd, Codec::Sparse].into_iter().find(|codec| codec.number() == number).ok_or(Broken("unknown codec"))
    }
}

/// Where stored bytes are, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: PackId,
    /// First byte in the pack.
    pub offset: u32,
    /// Bytes in the pack, never 0.
    pub stored: u32,
    /// How they are kept.
    pub codec: Codec,
}

impl Place {
    /// The byte range in the pack.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.stored)
    }

    fn check(&self) -> Result<(), Broken> {
        let fits = self.stored > 0 && self.range().end <= MAX_PACK_BYTES;
        fits.then_some(()).ok_or(Broken("a place outside of any pack"))
    }
}

/// Why bytes can't be read as what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

impl Broken {
    /// The fault, about the key or part that was being read.
    pub fn at(self, part: impl std::fmt::Display) -> Fault {
        Fault::permanent(code::OBJECT_CORRUPT, format!("{part}: {self}"))
    }
}

/// `objects/{operation}/`
pub fn objects_prefix(operation: OperationId) -> String {
    format!("objects/{operation}/")
}

/// `packs/{operation}/`
pub fn packs_prefix(operation: OperationId) -> String {
    format!("packs/{operation}/")
}

/// The key of the root that an attempt wrote.
pub fn root_key(operation: OperationId, attempt: u32) -> String {
    format!("objects/{operation}/{attempt}.manifest")
}

/// The key of the marker that makes the object count.
pub fn ready_key(operation: OperationId) -> String {
    format!("objects/{operation}/ready")
}

/// The key of the marker that makes the object never count.
pub fn aborted_key(operation: OperationId) -> String {
    format!("objects/{operation}/aborted")
}
