//! Packs and unpacks the bytes of extents and pages. **Invariant**: an extent is never stored in more bytes than its
//! sectors in use plus the bitmap of all its sectors, which is what `longshore_schema::bound` counts with.

use super::{
    format::{Broken, Codec},
    hash::{SECTOR, bytes_in_use, is_zero},
};
use bytes::Bytes;
use longshore_schema::fault::{Fault, code};
use zstd::bulk::{Compressor, Decompressor};

/// Extents from this size are sampled before they are compressed.
const SAMPLED: usize = 64 << 10;
/// Bytes of one of the two samples.
const SAMPLE: usize = 4 << 10;

/// Compresses; one for each thread.
pub struct Encoder(Compressor<'static>);

/// Decompresses; one for each thread.
pub struct Decoder(Decompressor<'static>);

impl Encoder {
    /// A new one of that zstd level.
    pub fn new(level: i32) -> Result<Encoder, Fault> {
        let compressor = Compressor::new(level).map_err(|error| internal("start zstd", &error))?;
        Ok(Encoder(compressor))
    }

    /// The smallest form of an extent among those tried.
    pub fn extent(&mut self, data: &Bytes) -> Result<(Codec, Bytes), Fault> {
        let in_use = bytes_in_use(data);
        if in_use == data.len() && self.is_incompressible(data)? {
            return Ok((Codec::Raw, data.clone()));
        }
        let sparse = if in_use < data.len() { in_use + bitmap_bytes(data.len()) } else { usize::MAX };
        let packed = self.compress(data)?;
        if packed.len() < sparse.min(data.len()) {
            return Ok((Codec::Zstd, packed.into()));
        }
        if sparse < data.len() {
            return Ok((Codec::Sparse, sparse_form(data, sparse).into()));
        }
        Ok((Codec::Raw, data.clone()))
    }

    /// A page's stored form.
    pub fn page(&mut self, data: Vec<u8>) -> Result<(Codec, Bytes), Fault> {
        let packed = self.compress(&data)?;
        let smaller = packed.len() < data.len();
        Ok(if smaller { (Codec::Zstd, packed.into()) } else { (Codec::Raw, data.into()) })
    }

    /// Two samples that don't shrink by a twentieth: not worth the rest's time.
    fn is_incompressible(&mut self, data: &[u8]) -> Result<bool, Fault> {
        if data.len() < SAMPLED {
            return Ok(false);
        }
        for start in [data.len() / 4, data.len() / 4 * 3] {
            let sample = &data[start..start + SAMPLE];
            if self.compress(sample)?.len() < SAMPLE - SAMPLE / 20 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn compress(&mut self, data: &[u8]) -> Result<Vec<u8>, Fault> {
        self.0.compress(data).map_err(|error| internal("compress", &error))
    }
}

impl Decoder {
    /// A new one.
    pub fn new() -> Result<Decoder, Fault> {
        let decompressor = Decompressor::new().map_err(|error| internal("start zstd", &error))?;
        Ok(Decoder(decompressor))
    }

    /// Fills `out`, which is all zeros, with exactly what `stored` holds.
    pub fn extent(&mut self, codec: Codec, stored: &[u8], out: &mut [u8]) -> Result<(), Broken> {
        match codec {
            Codec::Raw if stored.len() == out.len() => out.copy_from_slice(stored),
            Codec::Raw => return Err(Broken("stored raw with another length")),
            Codec::Zstd => {
                let length = self.0.decompress_to_buffer(stored, out).map_err(|_| Broken("the zstd frame is damaged"))?;
                if length != out.len() {
                    return Err(Broken("the zstd frame has another length"));
                }
            }
            Codec::Sparse => fill_sparse(stored, out)?,
        }
        Ok(())
    }

    /// A page's bytes, at most `limit` of them.
    pub fn page(&mut self, codec: Codec, stored: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
        match codec {
            Codec::Raw if stored.len() <= limit => Ok(stored.to_vec()),
            Codec::Zstd => {
                let mut out = Vec::with_capacity(limit);
                self.0.decompress_to_buffer(stored, &mut out).map_err(|_| Broken("the zstd frame is damaged"))?;
                Ok(out)
            }
            Codec::Raw | Codec::Sparse => Err(Broken("no page is stored like that")),
        }
    }
}

fn bitmap_bytes(length: usize) -> usize {
    length.div_ceil(SECTOR).div_ceil(8)
}

fn sparse_form(data: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    out.resize(bitmap_bytes(data.len()), 0);
    for (number, sector) in data.chunks(SECTOR).enumerate() {
        if !is_zero(sector) {
            out[number / 8] |= 1 << (number % 8);
            out.extend_from_slice(sector);
        }
    }
    out
}

fn fill_sparse(stored: &[u8], out: &mut [u8]) -> Result<(), Broken> {
    let (bitmap, mut sectors) = stored.split_at_checked(bitmap_bytes(out.len())).ok_or(Broken("the sector bitmap is cut"))?;
    let count = out.len().div_ceil(SECTOR);
    if (count..bitmap.len() * 8).any(|number| bitmap[number / 8] & (1 << (number % 8)) != 0) {
        return Err(Broken("the sector bitmap goes past the end"));
    }
    for (number, sector) in out.chunks_mut(SECTOR).enumerate() {
        if bitmap[number / 8] & (1 << (number % 8)) != 0 {
            let (head, rest) = sectors.split_at_checked(sector.len()).ok_or(Broken("sectors are missing"))?;
            sector.copy_from_slice(head);
            sectors = rest;
        }
    }
    sectors.is_empty().then_some(()).ok_or(Broken("more sectors than the bitmap says"))
}

fn internal(doing: &str, error: &std::io::Error) -> Fault {
    Fault::permanent(code::INTERNAL, format!("{doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// Random runs in every `stride`-th place, so that every codec has its turn.
    fn data(length: usize, run: usize, stride: usize) -> Bytes {
        let mut random = StdRng::seed_from_u64(length as u64);
        let mut data = vec![0; length];
        data.chunks_mut(run).step_by(stride).for_each(|part| random.fill_bytes(part));
        data.into()
    }

    fn there_and_back(data: &Bytes) -> Codec {
        let (codec, stored) = Encoder::new(1).unwrap().extent(data).unwrap();
        assert!(stored.len() <= bytes_in_use(data) + bitmap_bytes(data.len()));
        assert!(stored.len() <= data.len());
        let mut out = vec![0; data.len()];
        Decoder::new().unwrap().extent(codec, &stored, &mut out).unwrap();
        assert!(out == data[..], "{codec:?}");
        codec
    }

    #[test]
    fn each_codec_is_used_where_it_is_the_smallest() {
        assert_eq!(there_and_back(&data(256 << 10, 256 << 10, 1)), Codec::Raw);
        assert_eq!(there_and_back(&data(65_536, 512, 2)), Codec::Sparse);
        assert_eq!(there_and_back(&Bytes::from(b"text ".repeat(20_000))), Codec::Zstd);
        assert_eq!(there_and_back(&data(777, 777, 1)), Codec::Raw);
    }

    proptest! {
        #[test]
        fn extents_come_back_and_keep_to_their_bound(length in 1usize..300_000, run in 1usize..9000, stride in 1usize..6) {
            there_and_back(&data(length, run, stride));
        }

        #[test]
        fn arbitrary_bytes_never_panic(stored in prop::collection::vec(any::<u8>(), 0..600), length in 1usize..5000) {
            let mut decoder = Decoder::new().unwrap();
            for codec in [Codec::Raw, Codec::Zstd, Codec::Sparse] {
                let _ = decoder.extent(codec, &stored, &mut vec![0; length]);
                let page = decoder.page(codec, &stored, length);
                prop_assert!(page.is_err() || page.unwrap().len() <= length);
            }
        }
    }
}
