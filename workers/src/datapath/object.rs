//! An object as if it were a disk: its runs as its manifest has them, its bytes from its packs, every digest checked. What
//! is copied into a store with other extents is read like that; where they are the same, its frames are (`pass_on`).

use super::{
    codec::Decoder,
    counts::check_counts,
    fetch::{Piece, fetch_all},
    format::{
        Place,
        page::Entry,
        shape::{FANOUT, MIN_EXTENT, Shape},
    },
    manifest::{Cursor, load_root},
    on_processor,
    read::WINDOW,
    restore::Source,
    scan::{Wanted, check, describe},
};
use crate::{
    hypervisor::{BlockRead, Extent},
    store::Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::fault::Fault;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::Mutex;

/// Leaf pages that are held: those of two windows of a walk, since spans are read behind it.
const HELD: usize = 2 * (WINDOW / (FANOUT * MIN_EXTENT as u64) + 1) as usize;

/// Reads one object. Clones share what was read of its manifest.
#[derive(Clone)]
pub struct ObjectReader(Arc<Inner>);

struct Inner {
    /// For faults: that it is read, which one, and where.
    what: String,
    store: Arc<dyn Store>,
    shape: Shape,
    pages: Mutex<Pages>,
}

struct Pages {
    cursor: Cursor,
    /// Those that were read last, by their index.
    held: VecDeque<(u64, Arc<Vec<Entry>>)>,
}

impl ObjectReader {
    /// Opens an object that counts. `place` is its store's name. `object.missing`, `object.corrupt`.
    pub async fn open(source: &Source, place: &str) -> Result<ObjectReader, Fault> {
        let what = format!("read object {} in store {place}", source.object);
        let opening = async {
            check_counts(&source.store, source.object, &source.root).await?;
            let root = load_root(&source.store, source.object, &source.root).await?;
            let shape = root.shape().map_err(|broken| broken.at("the root"))?;
            Ok::<_, Fault>((shape, Cursor::new(source.store.clone(), &root)?))
        };
        let (shape, cursor) = opening.await.map_err(|fault| fault.while_(&what))?;
        let pages = Mutex::new(Pages { cursor, held: VecDeque::new() });
        Ok(ObjectReader(Arc::new(Inner { what, store: source.store.clone(), shape, pages })))
    }

    /// Bytes of an extent.
    pub fn extent_size(&self) -> u32 {
        self.0.shape.extent_size()
    }

    /// What it has at some extents in a row.
    pub async fn entries(&self, first: u64, count: u64) -> Result<Vec<Entry>, Fault> {
        let (fanout, end) = (self.0.shape.fanout(), first + count);
        let mut pages = self.0.pages.lock().await;
        let (mut entries, mut extent) = (vec![], first);
        while extent < end {
            let index = extent / fanout;
            let (leaf, _) = pages.leaf(index).await.map_err(|fault| self.blamed(fault))?;
            let until = end.min((index + 1) * fanout);
            entries.extend((extent..until).map(|it| leaf.get((it % fanout) as usize).cloned().unwrap_or(Entry::Zero)));
            extent = until;
        }
        Ok(entries)
    }

    /// The stored bytes of some extents, in the order of their places, each with a digest that was checked.
    pub(super) async fn frames(&self, wanted: Vec<(Wanted, Place)>) -> Result<Vec<(Piece<Wanted>, Bytes)>, Fault> {
        let fetched = self.fetch(wanted).await?;
        let checked = on_processor(move || {
            let mut decoder = Decoder::new()?;
            fetched.iter().try_for_each(|(piece, stored)| decoded(&mut decoder, piece, stored).map(drop))?;
            Ok(fetched)
        });
        checked.await.map_err(|fault| self.blamed(fault))
    }

    async fn fetch(&self, wanted: Vec<(Wanted, Place)>) -> Result<Vec<(Piece<Wanted>, Bytes)>, Fault> {
        let piece = |(tag, place): (Wanted, Place)| Piece { place, length: self.0.shape.length(tag.extent), tag };
        let pieces = wanted.into_iter().map(piece).collect();
        fetch_all(&self.0.store, pieces).await.map_err(|fault| self.blamed(fault))
    }

    fn blamed(&self, fault: Fault) -> Fault {
        fault.while_(&self.0.what)
    }
}

impl Pages {
    /// The entries of leaf page `index`, none if it is zeros, and the leaf page that comes next.
    async fn leaf(&mut self, index: u64) -> Result<(Arc<Vec<Entry>>, u64), Fault> {
        if let Some((_, leaf)) = self.held.iter().rev().find(|(known, _)| *known == index) {
            return Ok((leaf.clone(), index + 1));
        }
        let (entries, next) = self.cursor.entries(index).await?;
        let leaf = Arc::new(entries);
        if !leaf.is_empty() {
            self.held.push_back((index, leaf.clone()));
            if self.held.len() > HELD {
                self.held.pop_front();
            }
        }
        Ok((leaf, next))
    }
}

#[async_trait]
impl BlockRead for ObjectReader {
    fn size(&self) -> u64 {
        self.0.shape.size()
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        let (shape, end) = (self.0.shape, offset + bytes);
        let (extent_size, fanout) = (u64::from(shape.extent_size()), shape.fanout());
        let mut pages = self.0.pages.lock().await;
        let (mut runs, mut at) = (vec![], offset);
        while at < end {
            let index = at / extent_size / fanout;
            let (leaf, next) = pages.leaf(index).await.map_err(|fault| self.blamed(fault))?;
            let until = shape.offset(next * fanout).min(end);
            while at < until {
                let extent = at / extent_size;
                let zero = leaf.get((extent % fanout) as usize).is_none_or(|it| *it == Entry::Zero);
                let stop = if leaf.is_empty() { until } else { shape.offset(extent + 1).min(until) };
                push(&mut runs, at, stop, zero);
                at = stop;
            }
        }
        Ok(runs)
    }

    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        let (shape, end) = (self.0.shape, offset + u64::from(bytes));
        let extent_size = u64::from(shape.extent_size());
        let first = offset / extent_size;
        let entries = self.entries(first, end.div_ceil(extent_size) - first).await?;
        let wanted = (first..).zip(entries).filter_map(|(extent, entry)| match entry {
            Entry::Zero => None,
            Entry::Data(digest, place) => Some((Wanted { extent, digest }, place)),
        });
        let fetched = self.fetch(wanted.collect()).await?;
        let read = on_processor(move || {
            let (mut out, mut decoder) = (vec![0_u8; bytes as usize], Decoder::new()?);
            for (piece, stored) in &fetched {
                let data = decoded(&mut decoder, piece, stored)?;
                let start = shape.offset(piece.tag.extent);
                let (from, to) = (start.max(offset), end.min(start + data.len() as u64));
                let within = |base: u64| (from - base) as usize..(to - base) as usize;
                out[within(offset)].copy_from_slice(&data[within(start)]);
            }
            Ok(out)
        });
        read.await.map(Bytes::from).map_err(|fault| self.blamed(fault))
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

/// The extent's bytes, if they have the digest that is recorded.
fn decoded(decoder: &mut Decoder, piece: &Piece<Wanted>, stored: &Bytes) -> Result<Vec<u8>, Fault> {
    let mut out = vec![0; piece.length as usize];
    let checked = decoder.extent(piece.place.codec, stored, &mut out).and_then(|()| check(&out, piece.tag.digest));
    checked.map_err(|broken| broken.at(describe(piece.tag.extent, &piece.place)))?;
    Ok(out)
}

fn push(runs: &mut Vec<Extent>, offset: u64, end: u64, zero: bool) {
    match runs.last_mut() {
        Some(last) if last.zero == zero => last.bytes += end - offset,
        Some(_) | None => runs.push(Extent { offset, bytes: end - offset, zero }),
    }
}
