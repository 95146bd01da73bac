//! What earlier attempts of the same copy left: sealed packs whose extents needn't be sent again. Every footer is
//! checked first; then each is held only while the walk passes the extents that it has. Pages are ignored.

use super::{
    Work,
    finish::describe,
    format::{
        Broken, Place, objects_prefix,
        pack::{Frame, Kind, TRAILER, footer_start, frames},
        packs_prefix,
        root::{Header, MAX_ROOT, RootFile},
        root_key,
    },
    process::Known,
    read::Span,
    unfinished,
};
use crate::store::Store;
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
    steps::object::{Root, Sealed},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Footers read at the same time.
const PARALLEL: usize = 8;
/// Bytes of a pack's end that the first request reads: footer and trailer of most packs.
const TAIL: u64 = 64 << 10;

/// The sealed packs of earlier attempts.
pub struct Earlier {
    store: Arc<dyn Store>,
    /// All that are whole, with their lengths.
    packs: BTreeMap<PackId, u64>,
    /// Bytes that earlier attempts left, damaged packs and roots included.
    spent: u64,
    /// The length of this attempt's own root, if it has put one.
    root: Option<u64>,
    /// Above the numbers of all packs of this attempt: a process of this worker that died may have begun it.
    free_number: u32,
    /// Packs with extents that the walk hasn't reached, by their first extent.
    ahead: VecDeque<Range>,
    /// Those that it is passing: sorted extents, and the last of them.
    passing: Vec<(u64, Vec<Known>)>,
}

struct Range {
    first: u64,
    last: u64,
    pack: Sealed,
}

impl Earlier {
    /// Lists and checks what is there, and removes what isn't whole.
    pub async fn find(work: &Work) -> Result<Earlier, Fault> {
        unfinished::remove_earlier(work).await?;
        let objects: Vec<_> = work.store.list(&objects_prefix(work.operation)).try_collect().await?;
        let mut spent: u64 = objects.iter().map(|entry| entry.bytes).sum();
        let own = root_key(work.operation, work.attempt);
        let root = objects.iter().find(|entry| entry.key == own).map(|entry| entry.bytes);
        let mut listed = work.store.list(&packs_prefix(work.operation));
        let (mut found, mut free_number) = (vec![], 0);
        while let Some(entry) = listed.next().await {
            work.lease.check()?;
            let entry = entry?;
            spent += entry.bytes;
            let Some(id) = PackId::of_key(&entry.key) else { continue };
            if id.attempt == work.attempt {
                free_number = free_number.max(id.n.saturating_add(1));
            }
            found.push(Sealed { id, bytes: entry.bytes });
        }
        let store = &work.store;
        let mut checked =
            stream::iter(found).map(|pack| async move { (read_footer(store, &pack).await, pack) }).buffer_unordered(PARALLEL);
        let (mut packs, mut ahead) = (BTreeMap::new(), vec![]);
        while let Some((footer, pack)) = checked.next().await {
            match footer {
                Ok(frames) => {
                    packs.insert(pack.id.clone(), pack.bytes);
                    let extents = || frames.iter().filter(|frame| frame.kind == Kind::Extent).map(|frame| frame.index);
                    if let (Some(first), Some(last)) = (extents().min(), extents().max()) {
                        ahead.push(Range { first, last, pack });
                    }
                }
                Err(fault) if fault.is_transient() => return Err(fault),
                Err(fault) => {
                    tracing::warn!(operation.id = %work.operation, pack = %pack.id, %fault, "a pack of an earlier attempt is ignored")
                }
            }
        }
        drop(checked);
        ahead.sort_by_key(|range| range.first);
        Ok(Earlier { store: work.store.clone(), packs, spent, root, free_number, ahead: ahead.into(), passing: vec![] })
    }

    /// Bytes that earlier attempts put and that are still there.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// The root that this attempt has put when it was done before, if it says the same and all that it refers to is there.
    pub async fn root_of(&self, work: &Work, header: &Header) -> Result<Option<(RootFile, Root)>, Fault> {
        let Some(bytes) = self.root.filter(|bytes| *bytes <= MAX_ROOT) else { return Ok(None) };
        let bytes = self.store.get(&root_key(work.operation, work.attempt), 0..bytes).await?;
        let Ok(root) = RootFile::decode(&bytes) else { return Ok(None) };
        let own = |pack: &&Sealed| pack.id.operation == work.operation;
        let whole = root.packs.iter().filter(own).all(|pack| self.packs.get(&pack.id) == Some(&pack.bytes));
        Ok((root.header == *header && whole).then(|| (root, describe(work, &bytes))))
    }

    /// The first number that no pack of this attempt has, whole or not.
    pub fn free_number(&self) -> u32 {
        self.free_number
    }

    /// All whole packs, with their lengths.
    pub fn packs(&self) -> &BTreeMap<PackId, u64> {
        &self.packs
    }

    /// What is sealed of the extents of a span. Spans must come in order.
    pub async fn known(&mut self, span: Span) -> Result<Vec<Known>, Fault> {
        let end = span.first + u64::from(span.count);
        self.passing.retain(|(last, _)| *last >= span.first);
        while let Some(range) = self.ahead.pop_front_if(|range| range.first < end) {
            if range.last >= span.first {
                let frames = read_footer(&self.store, &range.pack).await?;
                self.passing.push((range.last, extents(&range.pack.id, frames)));
            }
        }
        let within = |known: &Vec<Known>| {
            let start = known.partition_point(|known| known.extent < span.first);
            let stop = known.partition_point(|known| known.extent < end);
            known[start..stop].to_vec()
        };
        Ok(self.passing.iter().flat_map(|(_, known)| within(known)).collect())
    }
}

/// The frames of a pack, from a footer that was checked. `object.corrupt`, `object.missing`.
pub async fn read_footer(store: &Arc<dyn Store>, pack: &Sealed) -> Result<Vec<Frame>, Fault> {
    let key = pack.id.key();
    if pack.bytes <= TRAILER as u64 {
        return Err(Broken("too short for a pack").at(key));
    }
    let mut start = pack.bytes - pack.bytes.min(TAIL);
    let mut tail = store.get(&key, start..pack.bytes).await?;
    let trailer = tail.len().checked_sub(TRAILER).ok_or(Broken("it ends too early").at(&key))?;
    let footer = footer_start(&tail[trailer..], pack.bytes).map_err(|broken| broken.at(&key))?;
    if footer < start {
        start = footer;
        tail = store.get(&key, start..pack.bytes).await?;
    }
    let skip = usize::try_from(footer - start).unwrap_or(usize::MAX);
    let tail = tail.get(skip..).ok_or(Broken("it ends too early").at(&key))?;
    frames(tail, pack.bytes).map_err(|broken| broken.at(&key))
}

/// The fault if the store holds another length for the pack than the one recorded.
pub async fn check_length(store: &Arc<dyn Store>, pack: &Sealed) -> Result<(), Fault> {
    match store.head(&pack.id.key()).await? {
        Some(entry) if entry.bytes == pack.bytes => Ok(()),
        Some(_) => Err(Broken("its length isn't the recorded one").at(pack.id.key())),
        None => Err(Fault::permanent(code::OBJECT_MISSING, format!("{} isn't there", pack.id.key()))),
    }
}

fn extents(pack: &PackId, frames: Vec<Frame>) -> Vec<Known> {
    let extents = frames.into_iter().filter(|frame| frame.kind == Kind::Extent);
    let known = extents.map(|Frame { index, digest, offset, stored, codec, .. }| {
        let place = Place { pack: pack.clone(), offset, stored, codec };
        Known { extent: index, digest, place }
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|known| known.extent);
    known
}
