//! Builds the pages of a new object from its entries, in order. A page whose contents are the base's is taken over
//! by reference; one of zeros is only a word in the page above.

use super::{
    codec::Encoder,
    format::{
        Place,
        pack::Kind,
        page::{Entry, Page, PageRef},
        shape::Shape,
    },
    manifest::{entry_place, page_place},
    pack::{Content, Packer},
};
use longshore_schema::{fault::Fault, ids::PackId};
use std::collections::BTreeSet;

/// zstd's level for pages.
const PAGE_LEVEL: i32 = 1;

/// The pages under construction, one for each level.
pub struct Tree {
    shape: Shape,
    leaf: Vec<Entry>,
    index: Vec<Vec<PageRef>>,
    closed: Vec<u64>,
    top: Vec<PageRef>,
    packs: BTreeSet<PackId>,
    last_pack: Option<PackId>,
}

/// A whole tree.
pub struct Built {
    /// The pages that the root names.
    pub top: Vec<PageRef>,
    /// Every pack that anything refers to.
    pub packs: BTreeSet<PackId>,
}

impl Tree {
    /// A tree without entries.
    pub fn new(shape: Shape) -> Tree {
        let levels = usize::from(shape.levels());
        let (index, closed) = (vec![vec![]; levels], vec![0; levels]);
        Tree { shape, leaf: vec![], index, closed, top: vec![], packs: BTreeSet::new(), last_pack: None }
    }

    /// Adds the next extent's entry. `base` has the base's pages at this extent, from the leaf page upwards.
    pub async fn push(&mut self, entry: Entry, base: &[PageRef], packer: &mut Packer) -> Result<(), Fault> {
        self.note(entry_place(&entry));
        self.leaf.push(entry);
        let mut level = 0;
        while level < self.shape.levels() && self.is_whole(level) {
            self.close(level, base.get(usize::from(level)), packer).await?;
            level += 1;
        }
        Ok(())
    }

    /// What was built, once every extent has been pushed.
    pub fn finish(self) -> Built {
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
        let stored = if page.is_zero() { PageRef::Zero } else { store(&page, level, index, base, packer).await? };
        self.note(page_place(&stored));
        match self.index.get_mut(at + 1) {
            Some(parent) => parent.push(stored),
            None => self.top.push(stored),
        }
        Ok(())
    }

    fn note(&mut self, place: Option<&Place>) {
        if let Some(place) = place.filter(|place| self.last_pack.as_ref() != Some(&place.pack)) {
            self.packs.insert(place.pack.clone());
            self.last_pack = Some(place.pack.clone());
        }
    }
}

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
