//! Lines of bounded length.

use super::LINE_LIMIT;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line over the limit; it was read to its end and thrown away.
    TooLong,
    /// The peer is done. What it sent without an end of line is no frame.
    End,
}

/// Reads one line, never holding more than the limit.
pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Frame> {
    let (mut line, mut too_long) = (vec![], false);
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(Frame::End);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        too_long |= line.len() + taken > LINE_LIMIT;
        if too_long {
            line = vec![];
        } else {
            line.extend_from_slice(&chunk[..taken]);
        }
        from.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(if too_long { Frame::TooLong } else { Frame::Line(line) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    #[tokio::test]
    async fn lines_are_cut_at_their_ends_and_long_ones_are_skipped() {
        let mut bytes = b"one\n\n".to_vec();
        bytes.extend(vec![b'x'; LINE_LIMIT]);
        bytes.push(b'\n');
        bytes.extend(vec![b'x'; LINE_LIMIT + 1]);
        bytes.extend(b"\nlast\nno end");
        for capacity in [1, 7, 8192] {
            let mut reader = BufReader::with_capacity(capacity, bytes.as_slice());
            let mut frames = vec![];
            loop {
                match read(&mut reader).await.unwrap() {
                    Frame::End => break,
                    Frame::TooLong => frames.push(None),
                    Frame::Line(line) => frames.push(Some(line.len())),
                }
            }
            assert_eq!(frames, [Some(3), Some(0), Some(LINE_LIMIT), None, Some(4)], "{capacity}");
        }
    }
}
