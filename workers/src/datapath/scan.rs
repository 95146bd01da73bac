//! Reads an object in one pass: leaf after leaf, neighbours in few requests, several at a time, within a budget of
//! memory. **Invariant**: nothing reaches the sink before its digest was checked.

use super::{
    codec::Decoder,
    fetch::{Piece, Request, requests},
    format::{Broken, Codec, Hash, Place, page::Entry, root::RootFile, shape::Shape},
    manifest::Cursor,
    on_processor,
};
use crate::{lease::Lease, store::Store};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::fault::{Fault, code};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// Requests at the same time.
const REQUESTS: usize = 16;
/// KiB of fetched and decoded bytes that may be held.
const BUDGET_KIB: u32 = 96 << 10;

/// Takes the checked bytes of an object, in any order.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Some extents in a row, which start at byte `offset` of the disk.
    async fn take(&self, offset: u64, data: Bytes) -> Result<(), Fault>;
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Extents that aren't zeros.
    pub extents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Stored bytes of pages and extents, gaps included.
    pub fetched: u64,
    /// Requests to the store for extents.
    pub requests: u64,
}

/// An extent to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) extent: u64,
    pub(super) digest: Hash,
}

struct Scan {
    store: Arc<dyn Store>,
    lease: Arc<Lease>,
    shape: Shape,
    sink: Arc<dyn Sink>,
    budget: Arc<Semaphore>,
    done: AtomicU64,
}

/// Reads all of the object into the sink.
pub async fn scan(store: &Arc<dyn Store>, lease: &Arc<Lease>, root: &RootFile, sink: Arc<dyn Sink>) -> Result<Scanned, Fault> {
    let shape = root.shape().map_err(|broken| broken.at("the root"))?;
    let mut cursor = Cursor::new(store.clone(), root)?;
    let budget = Arc::new(Semaphore::new(BUDGET_KIB as usize));
    let scan = Scan { store: store.clone(), lease: lease.clone(), shape, sink, budget, done: AtomicU64::new(0) };
    let scan = Arc::new(scan);
    let mut under_way = JoinSet::new();
    let mut sums = Scanned::default();
    let mut index = 0;
    while index < shape.pages(0) {
        lease.check()?;
        let (entries, next) = cursor.entries(index).await?;
        let first = index * shape.fanout();
        let end = shape.offset(next * shape.fanout()).min(shape.size());
        let mut zeros = end - shape.offset(first);
        let mut pieces = vec![];
        for (extent, entry) in (first..).zip(entries) {
            if let Entry::Data(digest, place) = entry {
                let length = shape.length(extent);
                zeros -= u64::from(length);
                pieces.push(Piece { place, length, tag: Wanted { extent, digest } });
            }
        }
        scan.advance(zeros);
        index = next;
        sums.extents += pieces.len() as u64;
        for request in requests(pieces) {
            sums.bytes += request.length;
            sums.fetched += request.range.end - request.range.start;
            sums.requests += 1;
            while under_way.len() >= REQUESTS {
                joined(under_way.join_next().await)?;
            }
            under_way.spawn(scan.clone().one(request));
        }
    }
    while !under_way.is_empty() {
        joined(under_way.join_next().await)?;
    }
    sums.fetched += cursor.fetched();
    Ok(sums)
}

impl Scan {
    async fn one(self: Arc<Scan>, request: Request<Wanted>) -> Result<(), Fault> {
        let held = (request.range.end - request.range.start + request.length).div_ceil(1 << 10);
        let held = u32::try_from(held).unwrap_or(BUDGET_KIB).min(BUDGET_KIB);
        let _held = self.budget.acquire_many(held).await.map_err(|_| Fault::cancelled("the read was stopped"))?;
        self.lease.check()?;
        let fetched = self.store.get(&request.pack.key(), request.range.clone()).await?;
        if fetched.len() as u64 != request.range.end - request.range.start {
            return Err(Fault::permanent(
                code::OBJECT_MISSING,
                format!("{} is shorter than the manifest says", request.pack.key()),
            ));
        }
        let (shape, length) = (self.shape, request.length);
        let runs = on_processor(move || decode(shape, request, &fetched)).await?;
        for (extent, data) in runs {
            self.lease.check()?;
            self.sink.take(self.shape.offset(extent), data).await?;
        }
        self.advance(length);
        Ok(())
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Relaxed) + bytes;
        self.lease.progress(done, self.shape.size());
    }
}

/// Decodes and checks; extents that follow each other come as one run.
fn decode(shape: Shape, mut request: Request<Wanted>, fetched: &Bytes) -> Result<Vec<(u64, Bytes)>, Fault> {
    let mut pieces = std::mem::take(&mut request.pieces);
    pieces.sort_by_key(|piece| piece.tag.extent);
    let mut decoder = Decoder::new()?;
    let mut runs = vec![];
    for run in pieces.chunk_by(|a, b| a.tag.extent + 1 == b.tag.extent) {
        if let Some((first, data)) = as_stored(&request, fetched, run)? {
            runs.push((first, data));
            continue;
        }
        let mut data = vec![0; run.iter().map(|piece| piece.length as usize).sum()];
        let mut rest = &mut data[..];
        for piece in run {
            let (out, after) = rest.split_at_mut(piece.length as usize);
            let decoded = decoder.extent(piece.place.codec, &request.slice(fetched, piece), out);
            decoded
                .and_then(|()| check(out, piece.tag.digest))
                .map_err(|broken| broken.at(describe(piece.tag.extent, &piece.place)))?;
            rest = after;
        }
        if let Some(first) = run.first() {
            debug_assert_eq!(first.length, shape.length(first.tag.extent));
            runs.push((first.tag.extent, data.into()));
        }
    }
    Ok(runs)
}

/// A run that lies in the pack as it lies on the disk: checked, and given on without a copy. `None` if it doesn't.
fn as_stored(request: &Request<Wanted>, fetched: &Bytes, run: &[Piece<Wanted>]) -> Result<Option<(u64, Bytes)>, Fault> {
    let raw = |piece: &Piece<Wanted>| piece.place.codec == Codec::Raw && piece.place.stored == piece.length;
    let follows = |pair: &[Piece<Wanted>]| pair[0].place.range().end == pair[1].place.range().start;
    let Some((first, last)) = run.first().zip(run.last()).filter(|_| run.iter().all(raw) && run.windows(2).all(follows)) else {
        return Ok(None);
    };
    for piece in run {
        let checked = check(&request.slice(fetched, piece), piece.tag.digest);
        checked.map_err(|broken| broken.at(describe(piece.tag.extent, &piece.place)))?;
    }
    let start = first.place.range().start - request.range.start;
    let end = last.place.range().end - request.range.start;
    Ok(Some((first.tag.extent, fetched.slice(start as usize..end as usize))))
}

pub(super) fn check(data: &[u8], digest: Hash) -> Result<(), Broken> {
    let same = blake3::hash(data) == digest;
    same.then_some(()).ok_or(Broken("its bytes don't have the recorded digest"))
}

pub(super) fn describe(extent: u64, place: &Place) -> String {
    format!("extent {extent} in {} at {}", place.pack.key(), place.offset)
}

fn joined(ended: Option<Result<Result<(), Fault>, tokio::task::JoinError>>) -> Result<(), Fault> {
    match ended {
        None => Ok(()),
        Some(Ok(ended)) => ended,
        Some(Err(error)) => Err(Fault::transient(code::INTERNAL, format!("a task of the read died: {error}"))),
    }
}
