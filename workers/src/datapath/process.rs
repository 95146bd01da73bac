//! What becomes of the extents of one span: reads them, then on the processor finds zeros, hashes, compares with
//! the base and with what earlier attempts sealed, and packs the rest.

use super::{
    codec::Encoder,
    format::{Codec, Hash, Place, page::Entry, shape::Shape},
    hash,
    manifest::Leaf,
    on_processor,
    read::{Reader, Span, read_span},
};
use bytes::Bytes;
use longshore_schema::{fault::Fault, ids::PackId};
use std::{collections::HashSet, sync::Arc};

/// An extent that an earlier attempt sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub extent: u64,
    /// Its digest.
    pub digest: Hash,
    /// Where it is.
    pub place: Place,
}

/// A span and all that may make storing it unnecessary.
pub struct Task {
    /// Which extents.
    pub span: Span,
    /// The base's leaf page over them.
    pub base: Option<Arc<Leaf>>,
    /// Packs of the base that nothing is taken over from.
    pub sparse: Arc<HashSet<PackId>>,
    /// What earlier attempts sealed of them.
    pub known: Vec<Known>,
    /// zstd's level.
    pub level: i32,
}

/// What becomes of one extent.
pub enum Outcome {
    /// It is zeros.
    Zero,
    /// The base has it.
    Reused(Hash, Place),
    /// An earlier attempt sealed it.
    Resumed(Hash, Place),
    /// It has to be stored.
    New {
        /// Of its bytes.
        digest: Hash,
        /// How they are stored.
        codec: Codec,
        /// What is stored.
        stored: Bytes,
        /// The base has it, in a sparse pack.
        repacked: bool,
    },
}

/// A processed span.
pub struct Processed {
    /// Which extents.
    pub span: Span,
    /// What becomes of each.
    pub outcomes: Vec<Outcome>,
    /// The base's pages above them.
    pub base: Option<Arc<Leaf>>,
    /// Bytes read from the volume.
    pub read: u64,
    /// Bytes of extents that an earlier attempt stored and that are others now.
    pub rewritten: u64,
}

impl Task {
    /// The result if nothing has to be read, else the task.
    pub fn without_reading(self) -> Result<Processed, Task> {
        if self.span.data != 0 {
            return Err(self);
        }
        let outcomes = (0..self.span.count).map(|_| Outcome::Zero).collect();
        Ok(Processed { span: self.span, outcomes, base: self.base, read: 0, rewritten: 0 })
    }
}

/// Reads and processes one span.
pub async fn process(reader: Reader, shape: Shape, task: Task) -> Result<Processed, Fault> {
    let extents = read_span(&reader, &shape, task.span).await?;
    drop(reader);
    on_processor(move || decide(task, extents)).await
}

fn decide(task: Task, extents: Vec<Option<Bytes>>) -> Result<Processed, Fault> {
    let Task { span, base, sparse, known, level } = task;
    let had = Had::new(base.as_deref(), &sparse, &known);
    let mut encoder = Encoder::new(level)?;
    let lengths: Vec<u64> = extents.iter().map(|bytes| bytes.as_ref().map_or(0, |it| it.len() as u64)).collect();
    let read = lengths.iter().sum();
    let outcomes = (span.first..).zip(extents).map(|(extent, bytes)| match bytes {
        Some(bytes) if !hash::is_zero(&bytes) => had.decide(extent, &bytes, &mut encoder),
        Some(_) | None => Ok(Outcome::Zero),
    });
    let outcomes = outcomes.collect::<Result<Vec<_>, Fault>>()?;
    let rewritten = (span.first..).zip(&outcomes).zip(lengths).map(|((extent, outcome), length)| match outcome {
        Outcome::New { .. } if known.iter().any(|it| it.extent == extent) => length,
        Outcome::New { .. } | Outcome::Zero | Outcome::Reused(..) | Outcome::Resumed(..) => 0,
    });
    let rewritten = rewritten.sum();
    Ok(Processed { span, outcomes, base, read, rewritten })
}

/// What is in the store already.
pub(super) struct Had<'t> {
    base: Option<&'t Leaf>,
    sparse: &'t HashSet<PackId>,
    known: &'t [Known],
}

impl<'t> Had<'t> {
    /// What a task may find there.
    pub(super) fn new(base: Option<&'t Leaf>, sparse: &'t HashSet<PackId>, known: &'t [Known]) -> Had<'t> {
        Had { base, sparse, known }
    }

    /// What becomes of an extent with that digest, if it needn't be stored.
    pub(super) fn find(&self, extent: u64, digest: Hash) -> Option<Outcome> {
        if let Some(place) = self.in_base(extent, digest).filter(|place| !self.sparse.contains(&place.pack)) {
            return Some(Outcome::Reused(digest, place.clone()));
        }
        let found = self.known.iter().find(|known| known.extent == extent && known.digest == digest);
        found.map(|found| Outcome::Resumed(digest, found.place.clone()))
    }

    /// Where the base has an extent with that digest, in a sparse pack or not.
    pub(super) fn in_base(&self, extent: u64, digest: Hash) -> Option<&'t Place> {
        match self.base?.entry(extent)? {
            Entry::Data(same, place) if *same == digest => Some(place),
            Entry::Data(..) | Entry::Zero => None,
        }
    }

    fn decide(&self, extent: u64, bytes: &Bytes, encoder: &mut Encoder) -> Result<Outcome, Fault> {
        let digest = hash::digest(bytes);
        if let Some(found) = self.find(extent, digest) {
            return Ok(found);
        }
        let repacked = self.in_base(extent, digest).is_some();
        let (codec, stored) = encoder.extent(bytes)?;
        Ok(Outcome::New { digest, codec, stored, repacked })
    }
}
