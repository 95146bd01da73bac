//! Builds the pages of a new object from its entries, in order. A page that says the same as the base's, places
//! included, is taken over by reference; one of zeros is only a word in the page above.

use super::{
    codec::Encoder,
    format::{
        Place,
        pack::Kind,
        page::{Entry, Page, PageRef},
        shape::Shape,
    },
    manifest::{Leaf, entry_place, page_place},
    pack::{Content, Packer},
};
use longshore_schema::{fault::Fault, ids::PackId};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// zstd's level for pages.
const PAGE_LEVEL: i32 = 1;

/// The pages under construction, one for each level.
pub struct Tree {
    shape: Shape,
    leaf: Vec<Entry>,
    index: Vec<Vec<PageRef>>,
    closed: Vec<u64>,
    /// For each level: whether something in the open page is elsewhere, or other, than in the base.
    moved: Vec<bool>,
    top: Vec<PageRef>,
    sparse: Arc<HashSet<PackId>>,
    packs: BTreeMap<PackId, u64>,
    /// The pack that was referred to last and the bytes since, not yet in `packs`.
    last: Option<(PackId, u64)>,
}

/// A whole tree.
pub struct Built {
    /// The pages that the root names.
    pub top: Vec<PageRef>,
    /// Every pack that anything refers to, and how many of its bytes.
    pub packs: BTreeMap<PackId, u64>,
}

impl Tree {
    /// A tree without entries. No page is taken over from a `sparse` pack.
    pub fn new(shape: Shape, sparse: Arc<HashSet<PackId>>) -> Tree {
        let levels = usize::from(shape.levels());
        let (index, closed, moved) = (vec![vec![]; levels], vec![0; levels], vec![false; levels]);
        Tree { shape, leaf: vec![], index, closed, moved, top: vec![], sparse, packs: BTreeMap::new(), last: None }
    }

    /// Adds the next extent's entry. `base` is the base's leaf page over it.
    pub async fn push(&mut self, extent: u64, entry: Entry, base: Option<&Leaf>, packer: &mut Packer) -> Result<(), Fault> {
        self.note(entry_place(&entry));
        self.moved[0] |= base.and_then(|leaf| leaf.entry(extent)) != Some(&entry);
        self.leaf.push(entry);
        let above = base.map_or(&[][..], |leaf| &leaf.above[..]);
        let mut level = 0;
        while level < self.shape.levels() && self.is_whole(level) {
            self.close(level, above.get(usize::from(level)), packer).await?;
            level += 1;
        }
        Ok(())
    }

    /// What was built, once every extent has been pushed.
    pub fn finish(mut self) -> Built {
        self.count_last();
        Built { top: self.top, packs: self.packs }
    }

    fn is_whole(&self, level: u8) -> bool {
        let at = usize::from(level);
        let held = if level == 0 { self.leaf.len() } else { self.index[at].len() };
        held as u64 == self.shape.entries(level, self.closed[at])
    }

    async fn close(&mut self, level: u8, base: Option<&PageRef>, packer: &mut Packer) -> Result<(), Fault> {
        let at = usize::from(level);
        let index = self.closed[at];
        self.closed[at] += 1;
        let page = match level {
            0 => Page::Leaf(std::mem::take(&mut self.leaf)),
            _ => Page::Index(std::mem::take(&mut self.index[at])),
        };
        let moved = std::mem::take(&mut self.moved[at]);
        let same = base.filter(|known| !moved && self.may_stay(known));
        let stored = if page.is_zero() { PageRef::Zero } else { store(&page, level, index, same, packer).await? };
        self.note(page_place(&stored));
        match self.index.get_mut(at + 1) {
            Some(parent) => {
                self.moved[at + 1] |= base != Some(&stored);
                parent.push(stored);
            }
            None => self.top.push(stored),
        }
        Ok(())
    }

    fn may_stay(&self, page: &PageRef) -> bool {
        page_place(page).is_none_or(|place| !self.sparse.contains(&place.pack))
    }

    fn note(&mut self, place: Option<&Place>) {
        let Some(place) = place else { return };
        match &mut self.last {
            Some((pack, bytes)) if *pack == place.pack => *bytes += u64::from(place.stored),
            _ => {
                self.count_last();
                self.last = Some((place.pack.clone(), u64::from(place.stored)));
            }
        }
    }

    fn count_last(&mut self) {
        if let Some((pack, bytes)) = self.last.take() {
            *self.packs.entry(pack).or_default() += bytes;
        }
    }
}

/// `base` is the base's page, if all below it is where the base has it. It may have had more entries.
async fn store(page: &Page, level: u8, index: u64, base: Option<&PageRef>, packer: &mut Packer) -> Result<PageRef, Fault> {
    let content = page.content(level);
    if let Some(known) = base.filter(|known| known.content() == Some(&content)) {
        return Ok(known.clone());
    }
    let bytes = page.encode(level, index);
    let digest = blake3::hash(&bytes);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (codec, stored) = Encoder::new(PAGE_LEVEL)?.page(bytes)?;
    let place = packer.add(Content { kind: Kind::Page(level), index, digest, length, codec, stored }).await?;
    Ok(PageRef::Page { content, bytes: digest, place })
}
