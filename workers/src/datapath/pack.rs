//! Fills packs: one stream for extents and one for manifest pages, so that what is read together lies together.

use super::{
    Work,
    format::{
        Codec, Hash, Place,
        pack::{Frame, Kind, MAX_FRAMES, seal},
    },
    write::Uploader,
};
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
    steps::object::Sealed,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Gives each pack of one attempt its number.
#[derive(Clone, Default)]
pub struct Numbers(Arc<AtomicU32>);

impl Numbers {
    /// From here on no number below `first` is given.
    pub fn skip_to(&self, first: u32) {
        self.0.fetch_max(first, Relaxed);
    }

    fn next(&self) -> u32 {
        self.0.fetch_add(1, Relaxed)
    }
}

/// What a frame will hold, ready to be stored.
pub struct Content {
    /// Extent or page.
    pub kind: Kind,
    /// Which.
    pub index: u64,
    /// Digest of the decoded bytes.
    pub digest: Hash,
    /// Number of decoded bytes.
    pub length: u32,
    /// How they are kept.
    pub codec: Codec,
    /// What is kept.
    pub stored: Bytes,
}

/// The packs that one attempt writes.
pub struct Packer {
    work: Work,
    /// A pack is sealed once it has this many bytes of frames.
    target: usize,
    numbers: Numbers,
    extents: Option<Open>,
    pages: Option<Open>,
    uploader: Uploader,
    sealed: BTreeMap<PackId, u64>,
}

struct Open {
    id: PackId,
    body: Vec<u8>,
    frames: Vec<Frame>,
}

impl Packer {
    /// A packer without packs.
    pub fn new(work: Work, target: usize, numbers: Numbers, uploader: Uploader) -> Packer {
        Packer { work, target, numbers, extents: None, pages: None, uploader, sealed: BTreeMap::new() }
    }

    /// Adds a frame to the pack of its kind, and sends the pack off when it is full.
    pub async fn add(&mut self, content: Content) -> Result<Place, Fault> {
        let slot = match content.kind {
            Kind::Extent => &mut self.extents,
            Kind::Page(_) => &mut self.pages,
        };
        let open = slot.get_or_insert_with(|| {
            let n = self.numbers.next();
            let id = PackId { operation: self.work.operation, attempt: self.work.attempt, n };
            Open { id, body: Vec::new(), frames: Vec::new() }
        });
        let place = open.add(content, self.target)?;
        if (open.body.len() >= self.target || open.frames.len() >= MAX_FRAMES)
            && let Some(full) = slot.take()
        {
            self.seal(full).await?;
        }
        Ok(place)
    }

    /// Bytes that were sent so far.
    pub fn stored(&self) -> u64 {
        self.uploader.stored()
    }

    /// Seals what is open and waits until every pack is in the store. The packs' lengths, by id.
    pub async fn finish(mut self) -> Result<(Uploader, BTreeMap<PackId, u64>), Fault> {
        for open in [self.extents.take(), self.pages.take()].into_iter().flatten() {
            self.seal(open).await?;
        }
        self.uploader.flush().await?;
        Ok((self.uploader, self.sealed))
    }

    async fn seal(&mut self, mut open: Open) -> Result<(), Fault> {
        seal(&mut open.body, &open.frames);
        let pack = Sealed { id: open.id, bytes: open.body.len() as u64 };
        self.sealed.insert(pack.id.clone(), pack.bytes);
        self.uploader.pack(pack, open.body.into()).await
    }
}

impl Open {
    fn add(&mut self, content: Content, target: usize) -> Result<Place, Fault> {
        let Content { kind, index, digest, length, codec, stored } = content;
        if self.body.is_empty() {
            // Memory that isn't touched costs nothing, and growing would copy.
            self.body.reserve(target + (5 << 20));
        }
        let too_long = |_| Fault::permanent(code::INTERNAL, "a pack grew past 4 GiB");
        let offset = u32::try_from(self.body.len()).map_err(too_long)?;
        let bytes = u32::try_from(stored.len()).map_err(too_long)?;
        self.body.extend_from_slice(&stored);
        self.frames.push(Frame { kind, index, digest, length, offset, stored: bytes, codec });
        Ok(Place { pack: self.id.clone(), offset, stored: bytes, codec })
    }
}
