//! Reads every byte of an operation's packs back before its object can become Ready, where the store itself doesn't
//! check what it is given: damage on the way, or by the store, is found while the volume is still there.

use super::{
    Work,
    codec::Decoder,
    fetch::{Piece, Request, requests},
    format::{Broken, Place, pack::Frame, shape::MAX_EXTENT},
    on_processor,
    resume::{check_length, read_footer},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{fault::Fault, steps::object::Sealed};

/// Requests at the same time.
const PARALLEL: usize = 4;

/// Checks each frame of each pack against the digest in its footer. The bytes read.
pub async fn read_back(work: &Work, packs: &[Sealed]) -> Result<u64, Fault> {
    let mut read = 0;
    for pack in packs {
        check_length(&work.store, pack).await?;
        let frames = read_footer(&work.store, pack).await?;
        let checks = stream::iter(requests(pieces(pack, frames)?)).map(|request| one(work, request));
        checks.buffer_unordered(PARALLEL).try_collect::<()>().await?;
        read += pack.bytes;
    }
    Ok(read)
}

fn pieces(pack: &Sealed, frames: Vec<Frame>) -> Result<Vec<Piece<Frame>>, Fault> {
    let piece = |frame: Frame| {
        let Frame { offset, stored, codec, length, .. } = frame;
        let place = Place { pack: pack.id.clone(), offset, stored, codec };
        let fits = length <= MAX_EXTENT;
        fits.then_some(Piece { place, length, tag: frame }).ok_or_else(|| Broken("a frame is too long").at(pack.id.key()))
    };
    frames.into_iter().map(piece).collect()
}

async fn one(work: &Work, request: Request<Frame>) -> Result<(), Fault> {
    work.lease.check()?;
    let fetched = work.store.get(&request.pack.key(), request.range.clone()).await?;
    on_processor(move || check(&request, &fetched)).await
}

fn check(request: &Request<Frame>, fetched: &Bytes) -> Result<(), Fault> {
    let mut decoder = Decoder::new()?;
    for piece in &request.pieces {
        let mut out = vec![0; piece.length as usize];
        let decoded = decoder.extent(piece.place.codec, &request.slice(fetched, piece), &mut out);
        let checked = decoded.and_then(|()| match blake3::hash(&out) == piece.tag.digest {
            true => Ok(()),
            false => Err(Broken("what was read back isn't what was written")),
        });
        checked.map_err(|broken| broken.at(format!("{} at {}", request.pack.key(), piece.place.offset)))?;
    }
    Ok(())
}
