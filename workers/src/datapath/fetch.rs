//! Reads many places of packs in few requests: neighbours in a pack, and those with a small gap between them,
//! come in one ranged read.

use super::format::Place;
use crate::store::Store;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
};
use std::{ops::Range, sync::Arc};

/// Bytes that are read for nothing rather than asking twice.
const GAP: u64 = 256 << 10;
/// Stored bytes, and decoded bytes, of one request at the most, unless a single piece has more.
const REQUEST: u64 = 8 << 20;
/// Requests for pages at the same time.
const PARALLEL: usize = 8;

/// One place to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<T> {
    /// Where.
    pub place: Place,
    /// Bytes when decoded.
    pub length: u32,
    /// Whatever the caller knows it by.
    pub tag: T,
}

/// What one request fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<T> {
    /// The pack.
    pub pack: PackId,
    /// The bytes of it.
    pub range: Range<u64>,
    /// The sum of the pieces' decoded lengths.
    pub length: u64,
    /// The pieces, by their offset.
    pub pieces: Vec<Piece<T>>,
}

/// The requests for these pieces.
pub fn requests<T>(mut pieces: Vec<Piece<T>>) -> Vec<Request<T>> {
    pieces.sort_by(|a, b| (&a.place.pack, a.place.offset).cmp(&(&b.place.pack, b.place.offset)));
    let mut requests: Vec<Request<T>> = vec![];
    for piece in pieces {
        let (range, length) = (piece.place.range(), u64::from(piece.length));
        match requests.last_mut() {
            Some(last)
                if last.pack == piece.place.pack
                    && range.start <= last.range.end + GAP
                    && range.end.max(last.range.end) - last.range.start <= REQUEST
                    && last.length + length <= REQUEST =>
            {
                last.range.end = last.range.end.max(range.end);
                last.length += length;
                last.pieces.push(piece);
            }
            _ => requests.push(Request { pack: piece.place.pack.clone(), range, length, pieces: vec![piece] }),
        }
    }
    requests
}

impl<T> Request<T> {
    /// The stored bytes of one of its pieces.
    pub fn slice(&self, fetched: &Bytes, piece: &Piece<T>) -> Bytes {
        let range = piece.place.range();
        let (start, end) = (range.start - self.range.start, range.end - self.range.start);
        fetched.slice(start as usize..end as usize)
    }
}

/// The stored bytes of all pieces, for pieces that are few and small.
pub async fn fetch_all<T: Send + Sync>(store: &Arc<dyn Store>, pieces: Vec<Piece<T>>) -> Result<Vec<(Piece<T>, Bytes)>, Fault> {
    let fetched = stream::iter(requests(pieces)).map(|request| async move {
        let key = request.pack.key();
        let bytes = store.get(&key, request.range.clone()).await?;
        if bytes.len() as u64 != request.range.end - request.range.start {
            return Err(Fault::permanent(code::OBJECT_MISSING, format!("{key} is shorter than the manifest says")));
        }
        Ok::<_, Fault>((request, bytes))
    });
    let fetched: Vec<_> = fetched.buffered(PARALLEL).try_collect().await?;
    let mut all = vec![];
    for (mut request, bytes) in fetched {
        for piece in std::mem::take(&mut request.pieces) {
            let stored = request.slice(&bytes, &piece);
            all.push((piece, stored));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::format::Codec;
    use longshore_schema::ids::OperationId;

    fn piece(n: u32, offset: u32, stored: u32, length: u32) -> Piece<()> {
        let pack = PackId { operation: OperationId(uuid::Uuid::nil()), attempt: 1, n };
        Piece { place: Place { pack, offset, stored, codec: Codec::Raw }, length, tag: () }
    }

    #[test]
    fn neighbours_and_small_gaps_come_in_one_request_and_large_ones_do_not() {
        let gap = GAP as u32;
        let cases = [
            (vec![piece(0, 100, 50, 50), piece(0, 0, 100, 100)], vec![(0, 0..150)]),
            (vec![piece(0, 0, 100, 100), piece(0, 100 + gap, 1, 1)], vec![(0, 0..101 + GAP)]),
            (vec![piece(0, 0, 100, 100), piece(0, 101 + gap, 1, 1)], vec![(0, 0..100), (0, 101 + GAP..102 + GAP)]),
            (vec![piece(1, 0, 9, 9), piece(0, 9, 9, 9)], vec![(0, 9..18), (1, 0..9)]),
            (vec![piece(0, 0, 9, 5 << 20), piece(0, 9, 9, 5 << 20)], vec![(0, 0..9), (0, 9..18)]),
            (vec![piece(0, 0, 9 << 20, 9), piece(0, 9 << 20, 9, 9)], vec![(0, 0..9 << 20), (0, 9 << 20..(9 << 20) + 9)]),
        ];
        for (pieces, expected) in cases {
            let found: Vec<_> = requests(pieces).into_iter().map(|request| (request.pack.n, request.range)).collect();
            assert_eq!(found, expected);
        }
    }
}
