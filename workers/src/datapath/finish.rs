//! The end of a copy: the root, and the report of what became of every extent and every pack.

use super::{
    Work,
    format::{
        root::{Header, RootFile, object_digest},
        root_key,
        shape::Shape,
    },
    readback::read_back,
    resume::Earlier,
    tree::Built,
    write::Uploader,
};
use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
    steps::object::{About, Base, Copied, Root, Sealed},
};
use std::collections::BTreeMap;

/// `Copied::dropped` names no more packs than this. Those left out stay used by the object for longer than they
/// must, which wastes space and harms nothing.
const MOST_DROPPED: usize = 5_000;

/// An object that refers to less than a pack's bytes divided by this uses little of it.
const SPARSE: u64 = 4;

/// `Copied::sparse` names no more packs than this, the oldest operations' first. Others are named by the next copy.
const MOST_SPARSE: usize = 1_000;

/// What a pass over the whole volume leaves.
pub struct Finished {
    /// The pages.
    pub built: Built,
    /// Puts the root.
    pub uploader: Uploader,
    /// This pass's packs, with their lengths.
    pub sealed: BTreeMap<PackId, u64>,
    /// What was there before it.
    pub earlier: Earlier,
    /// What was taken over from.
    pub base: Option<(Base, RootFile)>,
    /// What became of the extents.
    pub sums: Sums,
    /// What the history should say.
    pub because: Option<String>,
    /// Whether this operation's packs are read again, all bytes of them.
    pub read_back: bool,
}

/// Bytes of extents, by what became of them.
#[derive(Default)]
pub struct Sums {
    /// Read from the volume.
    pub read: u64,
    /// Taken over from the base.
    pub reused: u64,
    /// Taken over from earlier attempts.
    pub resumed: u64,
    /// Stored again, out of the base's sparse packs.
    pub repacked: u64,
    /// Zeros.
    pub zeros: u64,
}

/// Puts the root, once every pack is in the store.
pub async fn finish(work: &Work, shape: Shape, about: About, finished: Finished) -> Result<Copied, Fault> {
    let Finished { built, mut uploader, sealed, earlier, base, sums, because, read_back: all } = finished;
    let without_base = base.is_none();
    let before = base.iter().flat_map(|(_, root)| &root.packs).map(|pack| (pack.id.clone(), pack.bytes));
    let before: BTreeMap<PackId, u64> = before.collect();
    let packs = built.packs.keys().map(|id| {
        let bytes = sealed.get(id).or_else(|| earlier.packs().get(id)).or_else(|| before.get(id));
        let bytes = *bytes.ok_or_else(|| Fault::permanent(code::INTERNAL, format!("pack {id} is used but unknown")))?;
        Ok(Sealed { id: id.clone(), bytes })
    });
    let packs = packs.collect::<Result<Vec<_>, Fault>>()?;
    let sparse = packs.iter().filter(|pack| built.packs[&pack.id] < pack.bytes / SPARSE).map(|pack| pack.id.clone());
    let sparse = sparse.take(MOST_SPARSE).collect();
    let own: Vec<Sealed> = packs.iter().filter(|pack| all && pack.id.operation == work.operation).cloned().collect();
    let read_back = read_back(work, &own).await?;
    let digest = object_digest(&shape, &built.top).to_hex().to_string();
    let header = Header {
        operation: work.operation,
        attempt: work.attempt,
        virtual_size: shape.size(),
        extent_size: shape.extent_size(),
        object_digest: digest.clone(),
        about,
        anchor: None,
        parent: base.map(|(base, _)| base),
    };
    let root = RootFile { header, top: built.top, packs };
    let bytes = root.encode().map_err(|broken| Fault::permanent(code::INTERNAL, format!("write the root: {broken}")))?;
    let described = Root { attempt: work.attempt, digest: blake3::hash(&bytes).to_hex().to_string(), bytes: bytes.len() as u64 };
    uploader.last(&root_key(work.operation, work.attempt), bytes.into()).await?;
    Ok(Copied {
        root: described,
        digest,
        virtual_size: shape.size(),
        extent_size: shape.extent_size(),
        read: sums.read,
        stored: uploader.stored(),
        reused: sums.reused,
        resumed: sums.resumed,
        repacked: sums.repacked,
        zeros: sums.zeros,
        read_back,
        because,
        packs: unrecorded(work),
        unused: earlier.packs().keys().filter(|id| !built.packs.contains_key(id)).cloned().collect(),
        dropped: before.into_keys().filter(|id| !built.packs.contains_key(id)).take(MOST_DROPPED).collect(),
        sparse,
        without_base,
    })
}

/// Each sealed pack once, those of earlier attempts included: the engine may know none of them.
fn unrecorded(work: &Work) -> Vec<Sealed> {
    let packs: BTreeMap<_, _> = work.lease.unrecorded().into_iter().map(|pack| (pack.id, pack.bytes)).collect();
    packs.into_iter().map(|(id, bytes)| Sealed { id, bytes }).collect()
}
