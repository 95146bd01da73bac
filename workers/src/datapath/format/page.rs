//! A manifest page: up to `FANOUT` entries. Level 0 says where extents are, the levels above where pages are.
//! A page whose every entry is ZERO is never stored: whoever refers to it says ZERO.

use super::{
    Broken, Codec, Hash, Place,
    fields::{Fields, put_pack_id},
};
use longshore_schema::ids::PackId;

const MAGIC: &[u8; 4] = b"LSPG";
const VERSION: u8 = 1;
const CONTENT: &[u8; 16] = b"longshore.page.1";

/// What an object has at one extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Zeros.
    Zero,
    /// Bytes with this digest, at this place.
    Data(Hash, Place),
}

/// A page, as the page above it or the root names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageRef {
    /// All below it is zeros.
    Zero,
    /// A stored page.
    Page {
        /// Digest of its contents: equal for equal disks, wherever the extents are.
        content: Hash,
        /// Digest of its bytes.
        bytes: Hash,
        /// Where it is.
        place: Place,
    },
}

/// A decoded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Level 0.
    Leaf(Vec<Entry>),
    /// A level above 0.
    Index(Vec<PageRef>),
}

impl Page {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Page::Leaf(entries) => entries.len(),
            Page::Index(refs) => refs.len(),
        }
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all below it is zeros, so that it must not be stored.
    pub fn is_zero(&self) -> bool {
        match self {
            Page::Leaf(entries) => entries.iter().all(|entry| *entry == Entry::Zero),
            Page::Index(refs) => refs.iter().all(|page| *page == PageRef::Zero),
        }
    }

    /// The digest of what the page says about the disk's contents.
    pub fn content(&self, level: u8) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CONTENT).update(&[level]).update(&u16::try_from(self.len()).unwrap_or(u16::MAX).to_le_bytes());
        let mut one = |digest: Option<&Hash>| update(&mut hasher, digest);
        match self {
            Page::Leaf(entries) => entries.iter().for_each(|entry| one(entry.digest())),
            Page::Index(refs) => refs.iter().for_each(|page| one(page.content())),
        }
        hasher.finalize()
    }

    /// The stored form.
    pub fn encode(&self, level: u8, index: u64) -> Vec<u8> {
        let mut packs = Table(vec![]);
        let mut entries = Vec::with_capacity(self.len() * 76);
        match self {
            Page::Leaf(list) => list.iter().for_each(|entry| match entry {
                Entry::Zero => entries.extend_from_slice(&[0; 44]),
                Entry::Data(digest, place) => {
                    entries.extend_from_slice(digest.as_bytes());
                    packs.put_place(&mut entries, place);
                }
            }),
            Page::Index(list) => list.iter().for_each(|page| match page {
                PageRef::Zero => entries.extend_from_slice(&[0; 76]),
                PageRef::Page { content, bytes, place } => {
                    entries.extend_from_slice(content.as_bytes());
                    entries.extend_from_slice(bytes.as_bytes());
                    packs.put_place(&mut entries, place);
                }
            }),
        }
        let mut out = Vec::with_capacity(24 + packs.0.len() * 24 + entries.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, level]);
        out.extend_from_slice(&u16::try_from(packs.0.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&u16::try_from(self.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&index.to_le_bytes());
        packs.0.iter().for_each(|id| put_pack_id(&mut out, id));
        out.extend_from_slice(&entries);
        out
    }

    /// Reads the stored form of page `index` of `level`, which has `count` entries.
    pub fn decode(bytes: &[u8], level: u8, index: u64, count: u64) -> Result<Page, Broken> {
        let mut fields = Fields(bytes);
        if fields.bytes(4)? != MAGIC || fields.u8()? != VERSION {
            return Err(Broken("not a page, or of another version"));
        }
        let found_level = fields.u8()?;
        let packs = fields.u16()?;
        let entries = fields.u16()?;
        fields.zeros(6)?;
        if found_level != level || fields.u64()? != index || u64::from(entries) != count || packs > entries {
            return Err(Broken("another page"));
        }
        let ids = (0..packs).map(|_| fields.pack_id()).collect::<Result<Vec<_>, Broken>>()?;
        let page = if level == 0 {
            Page::Leaf((0..entries).map(|_| leaf_entry(&mut fields, &ids)).collect::<Result<_, Broken>>()?)
        } else {
            Page::Index((0..entries).map(|_| index_entry(&mut fields, &ids)).collect::<Result<_, Broken>>()?)
        };
        fields.end()?;
        if page.is_zero() {
            return Err(Broken("a stored page of zeros"));
        }
        Ok(page)
    }
}

impl Entry {
    /// The extent's digest; `None` for zeros.
    pub fn digest(&self) -> Option<&Hash> {
        match self {
            Entry::Zero => None,
            Entry::Data(digest, _) => Some(digest),
        }
    }
}

impl PageRef {
    /// The page's content digest; `None` for zeros.
    pub fn content(&self) -> Option<&Hash> {
        match self {
            PageRef::Zero => None,
            PageRef::Page { content, .. } => Some(content),
        }
    }
}

/// Adds what an entry says about contents: its kind, and its digest or 32 zeros.
pub fn update(hasher: &mut blake3::Hasher, digest: Option<&Hash>) {
    match digest {
        None => hasher.update(&[0; 33]),
        Some(digest) => hasher.update(&[1]).update(digest.as_bytes()),
    };
}

/// The packs of one page, in the order of their first use.
struct Table(Vec<PackId>);

impl Table {
    fn put_place(&mut self, out: &mut Vec<u8>, place: &Place) {
        let known = self.0.iter().rposition(|id| *id == place.pack);
        let number = known.unwrap_or_else(|| {
            self.0.push(place.pack.clone());
            self.0.len() - 1
        });
        out.extend_from_slice(&place.offset.to_le_bytes());
        out.extend_from_slice(&place.stored.to_le_bytes());
        out.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&[place.codec.number(), 1]);
    }
}

fn leaf_entry(fields: &mut Fields<'_>, ids: &[PackId]) -> Result<Entry, Broken> {
    let digest = fields.hash()?;
    match place(fields, ids)? {
        Some(place) => Ok(Entry::Data(digest, place)),
        None if digest.as_bytes() == &[0; 32] => Ok(Entry::Zero),
        None => Err(Broken("a digest at a zero entry")),
    }
}

fn index_entry(fields: &mut Fields<'_>, ids: &[PackId]) -> Result<PageRef, Broken> {
    let (content, bytes) = (fields.hash()?, fields.hash()?);
    match place(fields, ids)? {
        Some(place) => Ok(PageRef::Page { content, bytes, place }),
        None if content.as_bytes() == &[0; 32] && bytes.as_bytes() == &[0; 32] => Ok(PageRef::Zero),
        None => Err(Broken("a digest at a zero entry")),
    }
}

fn place(fields: &mut Fields<'_>, ids: &[PackId]) -> Result<Option<Place>, Broken> {
    let (offset, stored, number) = (fields.u32()?, fields.u32()?, fields.u16()?);
    let (codec, kind) = (fields.u8()?, fields.u8()?);
    match kind {
        0 if (offset, stored, number, codec) == (0, 0, 0, 0) => Ok(None),
        1 => {
            let pack = ids.get(usize::from(number)).cloned().ok_or(Broken("an entry names a pack that isn't listed"))?;
            let place = Place { pack, offset, stored, codec: Codec::of(codec)? };
            place.check()?;
            Ok(Some(place))
        }
        _ => Err(Broken("unknown kind of entry")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_schema::ids::OperationId;
    use proptest::prelude::*;

    fn at(n: u32, offset: u32) -> Place {
        let pack = PackId { operation: OperationId(uuid::Uuid::from_u128(7)), attempt: 1, n };
        Place { pack, offset, stored: 10, codec: Codec::Zstd }
    }

    fn examples() -> [(u8, Page); 2] {
        let digest = blake3::hash(b"x");
        let page = |n| PageRef::Page { content: digest, bytes: blake3::hash(b"y"), place: at(n, 3) };
        [
            (0, Page::Leaf(vec![Entry::Zero, Entry::Data(digest, at(4, 0)), Entry::Data(digest, at(2, 8)), Entry::Zero])),
            (2, Page::Index(vec![page(1), PageRef::Zero, page(1), page(0)])),
        ]
    }

    #[test]
    fn a_page_reads_back_as_it_was_written_and_as_no_other_page() {
        for (level, page) in examples() {
            let bytes = page.encode(level, 5);
            assert_eq!(Page::decode(&bytes, level, 5, 4), Ok(page));
            for (level, index, count) in [(level + 1, 5, 4), (level, 6, 4), (level, 5, 3)] {
                assert!(Page::decode(&bytes, level, index, count).is_err());
            }
        }
    }

    #[test]
    fn the_content_digest_depends_on_contents_and_not_on_places() {
        let digest = blake3::hash(b"x");
        let leaf = |n, digest| Page::Leaf(vec![Entry::Zero, Entry::Data(digest, at(n, 1))]);
        assert_eq!(leaf(1, digest).content(0), leaf(2, digest).content(0));
        assert_ne!(leaf(1, digest).content(0), leaf(1, blake3::hash(b"z")).content(0));
        assert_ne!(leaf(1, digest).content(0), leaf(1, digest).content(1));
        let swapped = Page::Leaf(vec![Entry::Data(digest, at(1, 1)), Entry::Zero]);
        assert_ne!(leaf(1, digest).content(0), swapped.content(0));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), level in 0u8..3) {
            prop_assert!(Page::decode(&bytes, level, 0, 2).is_err());
        }

        #[test]
        fn a_page_with_changed_bytes_is_refused_or_is_another_valid_page(at in 0usize..300, value in any::<u8>()) {
            for (level, page) in examples() {
                let mut bytes = page.encode(level, 5);
                let at = at % bytes.len();
                bytes[at] = value;
                if let Ok(decoded) = Page::decode(&bytes, level, 5, 4) {
                    prop_assert_eq!(decoded.len(), 4);
                }
                prop_assert!(Page::decode(&bytes[..at], level, 5, 4).is_err());
            }
        }
    }
}
