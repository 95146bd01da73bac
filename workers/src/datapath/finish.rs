//! The end of a copy: the root, and the report of what became of every extent and every pack.

use super::{
    Work,
    format::{
        root::{Header, RootFile, object_digest},
        root_key,
        shape::Shape,
    },
    pack::Packer,
    readback::read_back,
    resume::Earlier,
    tree::Built,
};
use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
    steps::object::{About, Base, Copied, Root, Sealed},
};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Has what isn't sealed yet.
    pub packer: Packer,
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

/// Puts the root, once every pack is in the store; unless this attempt was done before, and its root says the same.
pub async fn finish(work: &Work, shape: Shape, about: About, finished: Finished) -> Result<Copied, Fault> {
    let Finished { built, packer, earlier, base, sums, because, read_back: all } = finished;
    let without_base = base.is_none();
    let before = base.iter().flat_map(|(_, root)| &root.packs).map(|pack| (pack.id.clone(), pack.bytes));
    let before: BTreeMap<PackId, u64> = before.collect();
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
    let (root, described, stored, read_back) = match earlier.root_of(work, &header).await? {
        Some((root, described)) => (root, described, packer.stored(), 0),
        None => {
            let (mut uploader, sealed) = packer.finish().await?;
            let packs = built.packs.keys().map(|id| {
                let bytes = sealed.get(id).or_else(|| earlier.packs().get(id)).or_else(|| before.get(id));
                let bytes = *bytes.ok_or_else(|| Fault::permanent(code::INTERNAL, format!("pack {id} is used but unknown")))?;
                Ok(Sealed { id: id.clone(), bytes })
            });
            let packs = packs.collect::<Result<Vec<_>, Fault>>()?;
            let own: Vec<Sealed> = packs.iter().filter(|pack| all && pack.id.operation == work.operation).cloned().collect();
            let read_back = read_back(work, &own).await?;
            let root = RootFile { header, top: built.top, packs, fanout: shape.fanout() };
            let bytes = root.encode();
            let bytes = bytes.map_err(|broken| Fault::permanent(code::INTERNAL, format!("write the root: {broken}")))?;
            let described = describe(work, &bytes);
            uploader.last(&root_key(work.operation, work.attempt), bytes.into()).await?;
            (root, described, uploader.stored(), read_back)
        }
    };
    let used: BTreeSet<&PackId> = root.packs.iter().map(|pack| &pack.id).collect();
    let little = |pack: &&Sealed| built.packs.get(&pack.id).is_some_and(|bytes| *bytes < pack.bytes / SPARSE);
    Ok(Copied {
        root: described,
        digest,
        virtual_size: shape.size(),
        extent_size: shape.extent_size(),
        read: sums.read,
        stored,
        reused: sums.reused,
        resumed: sums.resumed,
        repacked: sums.repacked,
        zeros: sums.zeros,
        read_back,
        because,
        packs: unrecorded(work),
        unused: earlier.packs().keys().filter(|id| !used.contains(id)).cloned().collect(),
        dropped: before.into_keys().filter(|id| !used.contains(id)).take(MOST_DROPPED).collect(),
        sparse: root.packs.iter().filter(little).map(|pack| pack.id.clone()).take(MOST_SPARSE).collect(),
        without_base,
    })
}

/// A root by its bytes.
pub(super) fn describe(work: &Work, bytes: &[u8]) -> Root {
    Root { attempt: work.attempt, digest: blake3::hash(bytes).to_hex().to_string(), bytes: bytes.len() as u64 }
}

/// Each sealed pack once, those of earlier attempts included: the engine may know none of them.
fn unrecorded(work: &Work) -> Vec<Sealed> {
    let packs: BTreeMap<_, _> = work.lease.unrecorded().into_iter().map(|pack| (pack.id, pack.bytes)).collect();
    packs.into_iter().map(|(id, bytes)| Sealed { id, bytes }).collect()
}
