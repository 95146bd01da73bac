//! A pack: frames, then a footer that lists them, then a trailer of fixed length that finds the footer.

use super::{Broken, Codec, Hash, MAX_PACK_BYTES, VERSION, fields::Fields};

/// A pack has no more frames than this, so a footer is at most 1 MiB.
pub const MAX_FRAMES: usize = 16_384;
/// Bytes of the trailer.
pub const TRAILER: usize = 64;
/// Bytes of a footer's entry.
pub const ENTRY: usize = 64;
const MAGIC: &[u8; 8] = b"LSPACK\r\n";

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An extent of the disk.
    Extent,
    /// A manifest page of a level.
    Page(u8),
}

/// One frame, as the footer lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// Which extent of the disk, or which page of its level.
    pub index: u64,
    /// Digest of the decoded bytes.
    pub digest: Hash,
    /// Number of decoded bytes.
    pub length: u32,
    /// First byte in the pack.
    pub offset: u32,
    /// Bytes in the pack.
    pub stored: u32,
    /// How they are kept.
    pub codec: Codec,
}

/// Appends footer and trailer to a pack's frames.
pub fn seal(body: &mut Vec<u8>, frames: &[Frame]) {
    let footer = body.len();
    for frame in frames {
        let (kind, level) = match frame.kind {
            Kind::Extent => (0, 0),
            Kind::Page(level) => (1, level),
        };
        body.extend_from_slice(frame.digest.as_bytes());
        body.extend_from_slice(&frame.index.to_le_bytes());
        body.extend_from_slice(&frame.length.to_le_bytes());
        body.extend_from_slice(&frame.offset.to_le_bytes());
        body.extend_from_slice(&frame.stored.to_le_bytes());
        body.extend_from_slice(&[kind, level, frame.codec.number(), 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&VERSION.to_le_bytes());
    body.extend_from_slice(&u32::try_from(frames.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(&u64::try_from(footer).unwrap_or(u64::MAX).to_le_bytes());
    body.extend_from_slice(&[0; 8]);
    let digest = blake3::hash(&body[footer..]);
    body.extend_from_slice(digest.as_bytes());
}

/// Where the footer of a pack of `bytes` starts, from the pack's last `TRAILER` bytes.
pub fn footer_start(trailer: &[u8], bytes: u64) -> Result<u64, Broken> {
    let mut fields = Fields(trailer);
    if fields.bytes(8)? != MAGIC {
        return Err(Broken("the trailer isn't a pack's"));
    }
    if fields.u32()? != VERSION {
        return Err(Broken("a pack of another version"));
    }
    let count = fields.u32()?;
    let start = fields.u64()?;
    fields.zeros(8)?;
    fields.hash()?;
    fields.end()?;
    let footer = u64::from(count) * ENTRY as u64;
    let whole = start.checked_add(footer).and_then(|end| end.checked_add(TRAILER as u64));
    if whole != Some(bytes) || bytes > MAX_PACK_BYTES || count == 0 || count as usize > MAX_FRAMES {
        return Err(Broken("the trailer disagrees with the pack's length"));
    }
    Ok(start)
}

/// The frames of a pack of `bytes`, from its last bytes: footer and trailer.
pub fn frames(tail: &[u8], bytes: u64) -> Result<Vec<Frame>, Broken> {
    let trailer = tail.len().checked_sub(TRAILER).ok_or(Broken("it ends too early"))?;
    let start = footer_start(&tail[trailer..], bytes)?;
    if bytes - start != tail.len() as u64 {
        return Err(Broken("the footer has another length"));
    }
    let digested = tail.len() - 32;
    if blake3::hash(&tail[..digested]).as_bytes() != &tail[digested..] {
        return Err(Broken("the footer's digest differs"));
    }
    let mut fields = Fields(&tail[..trailer]);
    let mut frames = Vec::with_capacity(trailer / ENTRY);
    let mut expected = 0;
    while !fields.0.is_empty() {
        let frame = frame(&mut fields)?;
        if u64::from(frame.offset) != expected {
            return Err(Broken("the frames aren't one after the other"));
        }
        expected += u64::from(frame.stored);
        frames.push(frame);
    }
    if expected != start {
        return Err(Broken("the frames don't end at the footer"));
    }
    Ok(frames)
}

fn frame(fields: &mut Fields<'_>) -> Result<Frame, Broken> {
    let digest = fields.hash()?;
    let index = fields.u64()?;
    let length = fields.u32()?;
    let offset = fields.u32()?;
    let stored = fields.u32()?;
    let kind = match (fields.u8()?, fields.u8()?) {
        (0, 0) => Kind::Extent,
        (1, level) => Kind::Page(level),
        _ => return Err(Broken("unknown kind of frame")),
    };
    let codec = Codec::of(fields.u8()?)?;
    fields.zeros(9)?;
    if stored == 0 || length == 0 {
        return Err(Broken("an empty frame"));
    }
    Ok(Frame { kind, index, digest, length, offset, stored, codec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> (Vec<u8>, Vec<Frame>) {
        let mut body = vec![7; 300];
        let frame = |kind, index, offset, stored| Frame {
            kind,
            index,
            digest: blake3::hash(&[7]),
            length: 4096,
            offset,
            stored,
            codec: Codec::Zstd,
        };
        let frames = vec![frame(Kind::Extent, 9, 0, 100), frame(Kind::Page(2), 1, 100, 200)];
        seal(&mut body, &frames);
        (body, frames)
    }

    #[test]
    fn a_footer_reads_back_as_it_was_written() {
        let (body, expected) = example();
        let bytes = body.len() as u64;
        assert_eq!(footer_start(&body[body.len() - TRAILER..], bytes), Ok(300));
        assert_eq!(frames(&body[300..], bytes), Ok(expected));
    }

    #[test]
    fn every_flipped_bit_of_a_footer_and_every_other_length_is_found() {
        let (body, _) = example();
        let bytes = body.len() as u64;
        for bit in 300 * 8..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(frames(&flipped[300..], bytes).is_err(), "bit {bit}");
        }
        assert!(frames(&body[300..], bytes + 1).is_err());
        assert!(frames(&body[301..], bytes).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400), bytes in any::<u64>()) {
            prop_assert!(frames(&tail, bytes).is_err());
            prop_assert!(footer_start(&tail, bytes).is_err());
        }

        #[test]
        fn a_forged_footer_with_a_right_digest_never_panics(at in 0usize..160, value in any::<u8>(), length in 0u64..1000) {
            let (body, _) = example();
            let mut forged = body[300..body.len() - 32].to_vec();
            let at = at % forged.len();
            forged[at] = value;
            let digest = blake3::hash(&forged);
            forged.extend_from_slice(digest.as_bytes());
            let _ = frames(&forged, length);
            if let Ok(frames) = frames(&forged, body.len() as u64) {
                prop_assert!(frames.iter().all(|frame| u64::from(frame.offset) + u64::from(frame.stored) <= 300));
            }
        }
    }
}
