//! Reads manifests: the root whole, pages in their order as they are needed. At most one page of each level is
//! held, and the stored bytes of one leaf page's siblings.

use super::{
    codec::Decoder,
    fetch::{Piece, fetch_all},
    format::{
        Broken, Place,
        page::{Entry, Page, PageRef},
        root::{MAX_ROOT, RootFile},
        root_key,
        shape::{FANOUT, Shape},
    },
};
use crate::store::Store;
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    ids::{OperationId, PackId},
    steps::object::Root,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Reads and checks a root.
pub async fn load_root(store: &Arc<dyn Store>, object: OperationId, root: &Root) -> Result<RootFile, Fault> {
    load_root_with_fanout(store, object, root, FANOUT).await
}

/// The same of an object whose pages have so many entries: `Shape::with_fanout`.
pub async fn load_root_with_fanout(
    store: &Arc<dyn Store>,
    object: OperationId,
    root: &Root,
    fanout: u64,
) -> Result<RootFile, Fault> {
    let key = root_key(object, root.attempt);
    if root.bytes > MAX_ROOT {
        return Err(Broken("longer than a root may be").at(&key));
    }
    let bytes = store.get(&key, 0..root.bytes).await?;
    if blake3::hash(&bytes).to_hex().as_str() != root.digest {
        return Err(Broken("its digest isn't the recorded one").at(&key));
    }
    let file = RootFile::decode_with_fanout(&bytes, fanout).map_err(|broken| broken.at(&key))?;
    if file.header.operation != object || file.header.attempt != root.attempt {
        return Err(Broken("it is another object's").at(&key));
    }
    Ok(file)
}

/// One leaf page's worth of an object, and the pages above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The first extent under it.
    pub first: u64,
    /// The extents.
    pub entries: Vec<Entry>,
    /// The page that holds them, then the one above, up to the one that the root names.
    pub above: Vec<PageRef>,
}

impl Leaf {
    /// What it has for an extent, if that is under it and before the object's end.
    pub fn entry(&self, extent: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(extent.checked_sub(self.first)?).ok()?)
    }
}

enum Found {
    Leaf(Leaf),
    /// Zeros, or a page that isn't wanted, up to leaf page `next`.
    Nothing {
        next: u64,
        above: Vec<PageRef>,
    },
}

/// Reads leaf after leaf.
pub struct Cursor {
    store: Arc<dyn Store>,
    shape: Shape,
    top: Vec<PageRef>,
    packs: HashMap<PackId, u64>,
    /// For each level above 0: the page that was read last.
    path: Vec<Option<(u64, Arc<Vec<PageRef>>)>>,
    /// Stored bytes of leaf pages with one parent, by index, and that parent's index.
    leaves: (u64, HashMap<u64, Bytes>),
    fetched: u64,
    pages: u64,
}

impl Cursor {
    /// From a root that was checked.
    pub fn new(store: Arc<dyn Store>, root: &RootFile) -> Result<Cursor, Fault> {
        let shape = root.shape().map_err(|broken| broken.at("a root"))?;
        let packs = root.packs.iter().map(|pack| (pack.id.clone(), pack.bytes)).collect();
        let path = vec![None; usize::from(shape.levels())];
        Ok(Cursor { store, shape, top: root.top.clone(), packs, path, leaves: (u64::MAX, HashMap::new()), fetched: 0, pages: 0 })
    }

    /// Stored bytes of pages that were read.
    pub fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Pages that were read.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Leaf page `index`, which the object must have.
    pub async fn leaf(&mut self, index: u64) -> Result<Leaf, Fault> {
        match self.descend(index, &|_| true).await? {
            Found::Leaf(leaf) => Ok(leaf),
            Found::Nothing { above, .. } => {
                let count = usize::try_from(self.shape.entries(0, index)).unwrap_or(0);
                Ok(Leaf { first: index * self.shape.fanout(), entries: vec![Entry::Zero; count], above })
            }
        }
    }

    /// The entries of leaf page `index`, none if it is zeros, and the leaf page that comes next: those in
    /// between are zeros.
    pub async fn entries(&mut self, index: u64) -> Result<(Vec<Entry>, u64), Fault> {
        match self.descend(index, &|_| true).await? {
            Found::Leaf(leaf) => Ok((leaf.entries, index + 1)),
            Found::Nothing { next, .. } => Ok((vec![], next.min(self.shape.pages(0)))),
        }
    }

    /// Reads leaf page `index` if it and all above it are `wanted`, and says which leaf page comes next.
    pub async fn read_wanted(&mut self, index: u64, wanted: &(dyn Fn(&PageRef) -> bool + Send + Sync)) -> Result<u64, Fault> {
        match self.descend(index, wanted).await? {
            Found::Leaf(_) => Ok(index + 1),
            Found::Nothing { next, .. } => Ok(next),
        }
    }

    async fn descend(&mut self, index: u64, wanted: &(dyn Fn(&PageRef) -> bool + Send + Sync)) -> Result<Found, Fault> {
        let levels = usize::from(self.shape.levels());
        let mut siblings = Arc::new(self.top.clone());
        let mut above = VecDeque::new();
        for level in (0..self.shape.levels()).rev() {
            let span = self.shape.fanout().pow(u32::from(level));
            let at = index / span;
            let page = child(&siblings, level, self.shape, at)?;
            above.push_front(page.clone());
            if page == PageRef::Zero || !wanted(&page) {
                // All pages of zeros have zeros below them.
                while above.len() < levels {
                    above.push_front(PageRef::Zero);
                }
                return Ok(Found::Nothing { next: (at + 1) * span, above: above.into() });
            }
            if level > 0 {
                siblings = self.index_page(level, at, &page).await?;
                continue;
            }
            let stored = self.leaf_bytes(index, &siblings, wanted).await?;
            return match self.decode(0, index, &page, &stored)? {
                Page::Leaf(entries) => Ok(Found::Leaf(Leaf { first: index * self.shape.fanout(), entries, above: above.into() })),
                Page::Index(_) => Err(Broken("an index page where a leaf should be").at(describe(0, index, &page))),
            };
        }
        Err(Fault::permanent(code::INTERNAL, format!("leaf page {index} of an empty object")))
    }

    async fn index_page(&mut self, level: u8, index: u64, page: &PageRef) -> Result<Arc<Vec<PageRef>>, Fault> {
        if let Some((_, refs)) = self.path[usize::from(level)].as_ref().filter(|(known, _)| *known == index) {
            return Ok(refs.clone());
        }
        let PageRef::Page { place, .. } = page else {
            return Ok(Arc::new(vec![]));
        };
        self.check_place(place)?;
        let stored = self.store.get(&place.pack.key(), place.range()).await?;
        self.fetched += stored.len() as u64;
        let Page::Index(refs) = self.decode(level, index, page, &stored)? else {
            return Err(Broken("a leaf where an index page should be").at(describe(level, index, page)));
        };
        let refs = Arc::new(refs);
        self.path[usize::from(level)] = Some((index, refs.clone()));
        Ok(refs)
    }

    /// The stored bytes of a leaf page; fetches those of its later siblings with it.
    async fn leaf_bytes(
        &mut self,
        index: u64,
        siblings: &[PageRef],
        wanted: &(dyn Fn(&PageRef) -> bool + Send + Sync),
    ) -> Result<Bytes, Fault> {
        let fanout = self.shape.fanout();
        let parent = index / fanout;
        if self.leaves.0 != parent || !self.leaves.1.contains_key(&index) {
            let mut pieces = vec![];
            for (at, page) in (parent * fanout..).zip(siblings).filter(|(at, page)| *at >= index && wanted(page)) {
                if let Some(place) = page_place(page) {
                    self.check_place(place)?;
                    pieces.push(Piece { place: place.clone(), length: place.stored, tag: at });
                }
            }
            let fetched = fetch_all(&self.store, pieces).await?;
            self.fetched += fetched.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
            self.leaves = (parent, fetched.into_iter().map(|(piece, bytes)| (piece.tag, bytes)).collect());
        }
        let found = self.leaves.1.remove(&index);
        found.ok_or_else(|| Broken("a leaf page is in no pack").at(format!("leaf page {index}")))
    }

    fn decode(&mut self, level: u8, index: u64, page: &PageRef, stored: &[u8]) -> Result<Page, Fault> {
        let PageRef::Page { content, bytes, place } = page else {
            return Err(Broken("a page of zeros is stored").at(describe(level, index, page)));
        };
        let decoded = decode_page(self.shape, level, index, place, stored, bytes).and_then(|decoded| {
            let same = decoded.content(level) == *content;
            same.then_some(decoded).ok_or(Broken("its contents aren't those that are recorded"))
        });
        let decoded = decoded.map_err(|broken| broken.at(describe(level, index, page)))?;
        self.pages += 1;
        let places: Vec<&Place> = match &decoded {
            Page::Leaf(entries) => entries.iter().filter_map(entry_place).collect(),
            Page::Index(refs) => refs.iter().filter_map(page_place).collect(),
        };
        places.into_iter().try_for_each(|place| self.check_place(place))?;
        Ok(decoded)
    }

    /// Every place lies in a pack that the root lists.
    fn check_place(&self, place: &Place) -> Result<(), Fault> {
        match self.packs.get(&place.pack) {
            Some(bytes) if place.range().end <= *bytes => Ok(()),
            Some(_) => Err(Broken("an entry points past its end").at(place.pack.key())),
            None => Err(Broken("an entry points at it, but the root doesn't list it").at(place.pack.key())),
        }
    }
}

/// Where an entry's bytes are; `None` for zeros.
pub fn entry_place(entry: &Entry) -> Option<&Place> {
    match entry {
        Entry::Zero => None,
        Entry::Data(_, place) => Some(place),
    }
}

/// Where a page is; `None` for zeros.
pub fn page_place(page: &PageRef) -> Option<&Place> {
    match page {
        PageRef::Zero => None,
        PageRef::Page { place, .. } => Some(place),
    }
}

fn decode_page(shape: Shape, level: u8, index: u64, place: &Place, stored: &[u8], digest: &blake3::Hash) -> Result<Page, Broken> {
    let mut decoder = Decoder::new().map_err(|_| Broken("zstd can't be started"))?;
    // No page has more bytes: header, as many packs as entries, the larger entries.
    let most = 24 + shape.fanout() as usize * (24 + 76);
    let bytes = decoder.page(place.codec, stored, most)?;
    if blake3::hash(&bytes) != *digest {
        return Err(Broken("its digest differs"));
    }
    Page::decode(&bytes, level, index, shape.entries(level, index))
}

/// Page `at` of a level, among the children of one page, or of the root.
fn child(siblings: &[PageRef], level: u8, shape: Shape, at: u64) -> Result<PageRef, Fault> {
    let number = if level + 1 == shape.levels() { at } else { at % shape.fanout() };
    let found = usize::try_from(number).ok().and_then(|number| siblings.get(number)).cloned();
    found.ok_or_else(|| Fault::permanent(code::INTERNAL, format!("page {at} of level {level} is past the end")))
}

fn describe(level: u8, index: u64, page: &PageRef) -> String {
    match page_place(page) {
        Some(place) => format!("page {index} of level {level} in {} at {}", place.pack.key(), place.offset),
        None => format!("page {index} of level {level}"),
    }
}
