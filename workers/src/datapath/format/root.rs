//! A root: everything about one object, and where its top pages are.

use super::{
    Broken, Codec, Hash, MAX_PACK_BYTES, Place, VERSION,
    fields::{Fields, put_pack_id},
    page::{PageRef, update},
    shape::{FANOUT, Shape},
};
use longshore_schema::{
    ids::OperationId,
    steps::object::{About, Base, Sealed},
};
use serde::{Deserialize, Serialize};

/// Bytes that a root's description may have.
pub const MAX_ABOUT: usize = 64 << 10;
/// Bytes that a root may have.
pub const MAX_ROOT: u64 = 256 << 20;
const MAGIC: &[u8; 8] = b"LSROOT\r\n";
const OBJECT: &[u8; 18] = b"longshore.object.1";

/// A decoded root.
#[derive(Debug, Clone, PartialEq)]
pub struct RootFile {
    /// What it is and how large.
    pub header: Header,
    /// The top pages.
    pub top: Vec<PageRef>,
    /// Every pack that anything below refers to, sorted by id.
    pub packs: Vec<Sealed>,
    /// Entries of its pages. Not in the file: the format has `FANOUT`, others are only measured.
    pub fanout: u64,
}

/// The part of a root that people can read: JSON. Readers ignore fields that they don't know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The operation that made the object.
    pub operation: OperationId,
    /// The attempt that wrote this root.
    pub attempt: u32,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes of an extent.
    pub extent_size: u32,
    /// The object's digest in hex.
    pub object_digest: String,
    /// What it was made from, and for whom.
    pub about: About,
    /// The hypervisor's snapshot, checkpoint or bitmap that the next incremental may start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// The object whose entries were taken over. Informative: nothing reads it to restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Base>,
}

/// The digest of an object: equal for equal disks with equal extents.
pub fn object_digest(shape: &Shape, top: &[PageRef]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(OBJECT).update(&shape.size().to_le_bytes()).update(&shape.extent_size().to_le_bytes());
    hasher.update(&u16::try_from(top.len()).unwrap_or(u16::MAX).to_le_bytes());
    top.iter().for_each(|page| update(&mut hasher, page.content()));
    hasher.finalize()
}

impl RootFile {
    /// Size and extent size.
    pub fn shape(&self) -> Result<Shape, Broken> {
        Shape::with_fanout(self.header.virtual_size, self.header.extent_size, self.fanout)
    }

    /// The stored form.
    pub fn encode(&self) -> Result<Vec<u8>, Broken> {
        let header = serde_json::to_vec(&self.header).map_err(|_| Broken("the description isn't JSON"))?;
        if header.len() > MAX_ABOUT {
            return Err(Broken("the description is longer than 64 KiB"));
        }
        let mut out = Vec::with_capacity(64 + header.len() + self.top.len() * 80 + self.packs.len() * 32);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_count(&mut out, header.len())?;
        out.extend_from_slice(&header);
        put_count(&mut out, self.top.len())?;
        for page in &self.top {
            put_ref(&mut out, page, &self.packs)?;
        }
        put_count(&mut out, self.packs.len())?;
        for pack in &self.packs {
            put_pack_id(&mut out, &pack.id);
            out.extend_from_slice(&pack.bytes.to_le_bytes());
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        Ok(out)
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<RootFile, Broken> {
        RootFile::decode_with_fanout(bytes, FANOUT)
    }

    /// The same of an object whose pages have so many entries: `Shape::with_fanout`.
    pub fn decode_with_fanout(bytes: &[u8], fanout: u64) -> Result<RootFile, Broken> {
        let end = bytes.len().checked_sub(32).ok_or(Broken("it ends too early"))?;
        if blake3::hash(&bytes[..end]).as_bytes() != &bytes[end..] {
            return Err(Broken("the root's digest differs"));
        }
        let mut fields = Fields(&bytes[..end]);
        if fields.bytes(8)? != MAGIC || fields.u32()? != VERSION {
            return Err(Broken("not a root, or of another version"));
        }
        let length = fields.u32()? as usize;
        if length > MAX_ABOUT {
            return Err(Broken("the description is longer than 64 KiB"));
        }
        let header = fields.bytes(length)?;
        let header: Header = serde_json::from_slice(header).map_err(|_| Broken("the description isn't what it should be"))?;
        let shape = Shape::with_fanout(header.virtual_size, header.extent_size, fanout)?;
        let count = fields.u32()?;
        if u64::from(count) != shape.top() || u64::from(count) > fanout {
            return Err(Broken("another number of top pages than the size asks for"));
        }
        let top = (0..count).map(|_| take_ref(&mut fields)).collect::<Result<Vec<_>, Broken>>()?;
        let packs = take_packs(&mut fields)?;
        let top = top.into_iter().map(|found| found.resolve(&packs)).collect::<Result<Vec<_>, Broken>>()?;
        fields.end()?;
        if object_digest(&shape, &top).to_hex().as_str() != header.object_digest {
            return Err(Broken("the object's digest differs"));
        }
        Ok(RootFile { header, top, packs, fanout })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) -> Result<(), Broken> {
    let count = u32::try_from(count).map_err(|_| Broken("too many entries for a root"))?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

fn put_ref(out: &mut Vec<u8>, page: &PageRef, packs: &[Sealed]) -> Result<(), Broken> {
    match page {
        PageRef::Zero => out.extend_from_slice(&[0; 80]),
        PageRef::Page { content, bytes, place } => {
            let number =
                packs.binary_search_by(|pack| pack.id.cmp(&place.pack)).map_err(|_| Broken("a top page's pack isn't listed"))?;
            out.extend_from_slice(content.as_bytes());
            out.extend_from_slice(bytes.as_bytes());
            out.extend_from_slice(&place.offset.to_le_bytes());
            out.extend_from_slice(&place.stored.to_le_bytes());
            put_count(out, number)?;
            out.extend_from_slice(&[place.codec.number(), 1, 0, 0]);
        }
    }
    Ok(())
}

/// A top page whose pack is still a number in the list that follows.
struct Unresolved {
    content: Hash,
    bytes: Hash,
    offset: u32,
    stored: u32,
    number: u32,
    codec: u8,
    kind: u8,
}

fn take_ref(fields: &mut Fields<'_>) -> Result<Unresolved, Broken> {
    let (content, bytes) = (fields.hash()?, fields.hash()?);
    let (offset, stored, number) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (codec, kind) = (fields.u8()?, fields.u8()?);
    fields.zeros(2)?;
    Ok(Unresolved { content, bytes, offset, stored, number, codec, kind })
}

impl Unresolved {
    fn resolve(self, packs: &[Sealed]) -> Result<PageRef, Broken> {
        let Unresolved { content, bytes, offset, stored, number, codec, kind } = self;
        match kind {
            0 if content.as_bytes() == &[0; 32]
                && bytes.as_bytes() == &[0; 32]
                && (offset, stored, number, codec) == (0, 0, 0, 0) =>
            {
                Ok(PageRef::Zero)
            }
            1 => {
                let pack = packs.get(number as usize).ok_or(Broken("a top page names a pack that isn't listed"))?;
                let place = Place { pack: pack.id.clone(), offset, stored, codec: Codec::of(codec)? };
                place.check()?;
                Ok(PageRef::Page { content, bytes, place })
            }
            _ => Err(Broken("unknown kind of entry")),
        }
    }
}

fn take_packs(fields: &mut Fields<'_>) -> Result<Vec<Sealed>, Broken> {
    let count = fields.u32()? as usize;
    if fields.0.len() != count.saturating_mul(32) {
        return Err(Broken("the pack list has another length"));
    }
    let packs =
        (0..count).map(|_| Ok(Sealed { id: fields.pack_id()?, bytes: fields.u64()? })).collect::<Result<Vec<_>, Broken>>()?;
    if !packs.is_sorted_by(|a, b| a.id < b.id) {
        return Err(Broken("the pack list isn't sorted"));
    }
    if packs.iter().any(|pack| pack.bytes > MAX_PACK_BYTES) {
        return Err(Broken("a pack is longer than the format allows"));
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_schema::{ids::PackId, time::Timestamp};
    use proptest::prelude::*;

    fn example() -> RootFile {
        let operation = OperationId(uuid::Uuid::from_u128(9));
        let packs: Vec<_> = (0..3).map(|n| Sealed { id: PackId { operation, attempt: 1, n }, bytes: 1000 }).collect();
        let place = Place { pack: packs[1].id.clone(), offset: 5, stored: 6, codec: Codec::Raw };
        let top = vec![PageRef::Page { content: blake3::hash(b"c"), bytes: blake3::hash(b"b"), place }, PageRef::Zero];
        let shape = Shape::new(129 << 16, 1 << 16).unwrap();
        let about = About {
            kind: "backup-snapshot".into(),
            tenant: "t1".into(),
            zone: "z1".into(),
            name: None,
            source: "fast/vol".into(),
            created: Timestamp(1),
            copy_of: None,
        };
        let header = Header {
            operation,
            attempt: 1,
            virtual_size: shape.size(),
            extent_size: shape.extent_size(),
            object_digest: object_digest(&shape, &top).to_hex().to_string(),
            about,
            anchor: None,
            parent: None,
        };
        RootFile { header, top, packs, fanout: FANOUT }
    }

    #[test]
    fn a_root_reads_back_as_it_was_written_and_every_flipped_bit_is_found() {
        let bytes = example().encode().unwrap();
        assert_eq!(RootFile::decode(&bytes), Ok(example()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(RootFile::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn a_forged_root_with_a_right_digest_never_panics(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in 0usize..64) {
            let mut bytes = example().encode().unwrap();
            bytes.truncate(bytes.len() - 32 - cut % 33);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let digest = blake3::hash(&bytes);
            bytes.extend_from_slice(digest.as_bytes());
            let _ = RootFile::decode(&bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(RootFile::decode(&bytes).is_err());
        }
    }
}
