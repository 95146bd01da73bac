//! The disk that is measured with: half incompressible, a quarter like text, a quarter holes, in pieces of 4 MiB that lie
//! mixed. The same size gives the same bytes, so that runs can be compared.

use anyhow::Result;
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Bytes of a piece.
pub const PIECE: u64 = 4 << 20;
/// Bytes of one change.
pub const CHANGE: u64 = 64 << 10;
const WORDS: [&str; 12] =
    ["the ", "volume ", "of ", "a ", "snapshot ", "harbour\n", "store ", "4711 ", "is=", "copied; ", "0x7f ", "longshore "];

/// SplitMix64: quick, and good enough for bytes that must not shrink.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// That many bytes.
    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).take(usize::try_from(count).unwrap_or(0)).collect()
    }
}

/// What a piece holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Noise,
    Text,
    Hole,
}

/// In every four pieces two of noise, one of text, one hole, in an order that changes.
fn content(piece: u64) -> Content {
    match (piece + Random(piece / 4).number()) % 4 {
        0 | 1 => Content::Noise,
        2 => Content::Text,
        _ => Content::Hole,
    }
}

/// Makes the disk; `bytes` is a multiple of 16 MiB.
pub fn make(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes)?;
    let mut random = Random(1);
    for piece in 0..bytes / PIECE {
        match content(piece) {
            Content::Noise => file.write_all_at(&random.bytes(PIECE), piece * PIECE)?,
            Content::Text => file.write_all_at(&text(&mut random), piece * PIECE)?,
            Content::Hole => (),
        }
    }
    Ok(file.sync_all()?)
}

/// Words of a few lengths with a few digits between them: zstd makes about a third of it, as of logs and sources.
fn text(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::with_capacity(PIECE as usize + 64);
    while out.len() < PIECE as usize {
        let number = random.number();
        out.extend_from_slice(WORDS[(number % 12) as usize].as_bytes());
        if number >> 61 == 0 {
            out.extend_from_slice(format!("{:x}", number >> 40).as_bytes());
        }
    }
    out.truncate(PIECE as usize);
    out
}

/// Changes one percent, in pieces of 64 KiB at random places that aren't holes. How many bytes.
pub fn change(path: &Path, bytes: u64) -> Result<u64> {
    let file = File::options().write(true).open(path)?;
    let mut random = Random(2);
    let mut places = std::collections::BTreeSet::new();
    while (places.len() as u64) < bytes / 100 / CHANGE {
        let place = random.number() % (bytes / CHANGE) * CHANGE;
        if content(place / PIECE) != Content::Hole {
            places.insert(place);
        }
    }
    for place in &places {
        file.write_all_at(&random.bytes(CHANGE), *place)?;
    }
    file.sync_all()?;
    Ok(places.len() as u64 * CHANGE)
}

/// Writes blocks of 4 KiB at `count` places of a disk that is a hole otherwise. `shift` moves them within their neighbourhood.
pub fn scatter(path: &Path, bytes: u64, count: u64, shift: u64) -> Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.set_len(bytes)?;
    let mut random = Random(shift);
    for number in 0..count {
        let place = (bytes / count * number + shift) / 4096 * 4096;
        file.write_all_at(&random.bytes(4096), place)?;
    }
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_noise_and_a_quarter_each_is_text_and_holes() {
        let count = |wanted| (0..400).filter(|piece| content(*piece) == wanted).count();
        assert_eq!((count(Content::Noise), count(Content::Text), count(Content::Hole)), (200, 100, 100));
    }
}
