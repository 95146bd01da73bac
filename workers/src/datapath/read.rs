//! Walks a volume in spans: some extents in a row, and which of them have to be read. What is known to be zeros
//! isn't read; the rest is read in large pieces.

use super::format::shape::Shape;
use crate::hypervisor::{BlockRead, Extent};
use bytes::Bytes;
use futures::future::try_join_all;
use longshore_schema::fault::{Fault, code};
use std::{collections::VecDeque, sync::Arc};

/// Bytes of a span: the largest single read. Spans never cross a leaf page.
const SPAN: u64 = 4 << 20;
/// Bytes of the volume whose runs are asked for at once.
pub(super) const WINDOW: u64 = 1 << 30;

/// A reader that several tasks share.
pub type Reader = Arc<Box<dyn BlockRead>>;

/// Some extents in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first extent.
    pub first: u64,
    /// How many: at most 64, or a leaf page's if all are known to be zeros.
    pub count: u32,
    /// A bit for each that isn't known to be zeros, the first extent's lowest.
    pub data: u64,
}

/// The way through one volume.
pub struct Walk {
    reader: Reader,
    shape: Shape,
    next: u64,
    runs: VecDeque<Extent>,
    asked: u64,
}

impl Walk {
    /// From the first extent on.
    pub fn new(reader: Reader, shape: Shape) -> Walk {
        Walk { reader, shape, next: 0, runs: VecDeque::new(), asked: 0 }
    }

    /// The next span; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Span>, Fault> {
        let left = self.shape.extents() - self.next;
        if left == 0 {
            return Ok(None);
        }
        let extent_size = u64::from(self.shape.extent_size());
        let first = self.next;
        let most = (SPAN / extent_size).min(self.shape.fanout());
        let count = self.zeros(first).await?.max(left.min(most));
        let start = self.shape.offset(first);
        let end = self.shape.offset(first + count).min(self.shape.size());
        self.ask_until(end).await?;
        let mut data = 0;
        while let Some(run) = self.runs.front().copied().filter(|run| run.offset < end) {
            if !run.zero {
                let from = (run.offset.max(start) - start) / extent_size;
                let to = ((run.offset + run.bytes).min(end) - 1 - start) / extent_size;
                data |= (u64::MAX >> (63 - (to - from))) << from;
            }
            if run.offset + run.bytes > end {
                self.runs[0] = Extent { offset: end, bytes: run.offset + run.bytes - end, ..run };
                break;
            }
            self.runs.pop_front();
        }
        self.next += count;
        Ok(Some(Span { first, count: count as u32, data }))
    }

    /// Extents from `first` to the end of its leaf page, if all of them are known to be zeros; else 0.
    async fn zeros(&mut self, first: u64) -> Result<u64, Fault> {
        let fanout = self.shape.fanout();
        let last = ((first / fanout + 1) * fanout).min(self.shape.extents());
        let end = self.shape.offset(last).min(self.shape.size());
        self.ask_until(end).await?;
        let zeros = self.runs.front().is_some_and(|run| run.zero && run.offset + run.bytes >= end);
        Ok(if zeros { last - first } else { 0 })
    }

    async fn ask_until(&mut self, end: u64) -> Result<(), Fault> {
        while self.asked < end {
            self.ask().await?;
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<(), Fault> {
        let (start, end) = (self.asked, self.shape.size().min(self.asked + WINDOW));
        let mut expected = start;
        for run in self.reader.extents(start, end - start).await? {
            let run_end = run.offset.checked_add(run.bytes);
            let Some(run_end) = run_end.filter(|to| run.offset == expected && *to > expected && *to <= end) else {
                return Err(disorder(start, end));
            };
            expected = run_end;
            match self.runs.back_mut() {
                Some(last) if last.zero == run.zero => last.bytes += run.bytes,
                _ => self.runs.push_back(run),
            }
        }
        if expected != end {
            return Err(disorder(start, end));
        }
        self.asked = end;
        Ok(())
    }
}

fn disorder(start: u64, end: u64) -> Fault {
    Fault::permanent(code::VOLUME_READ_FAILED, format!("the volume's map of bytes {start} to {end} has gaps or overlaps"))
}

/// Reads the extents of a span that have data; `None` for the others. Neighbours come in one read.
pub async fn read_span(reader: &Reader, shape: &Shape, span: Span) -> Result<Vec<Option<Bytes>>, Fault> {
    let reads = groups(span).into_iter().map(|(first, count)| async move {
        let start = shape.offset(span.first + first);
        let end = shape.offset(span.first + first + count).min(shape.size());
        let length = u32::try_from(end - start).unwrap_or(u32::MAX);
        let bytes = reader.read(start, length).await?;
        if bytes.len() as u64 != end - start {
            let message = format!("the volume gave {} bytes for {length} at {start}", bytes.len());
            return Err(Fault::permanent(code::VOLUME_READ_FAILED, message));
        }
        Ok((first, count, bytes))
    });
    let mut extents = vec![None; span.count as usize];
    for (first, count, bytes) in try_join_all(reads).await? {
        let mut left = bytes;
        for number in first..first + count {
            let length = shape.length(span.first + number) as usize;
            extents[number as usize] = Some(left.split_to(length));
        }
    }
    Ok(extents)
}

/// Runs of set bits: (first, count).
fn groups(span: Span) -> Vec<(u64, u64)> {
    let mut groups: Vec<(u64, u64)> = vec![];
    for number in (0..u64::from(span.count)).filter(|number| span.data & (1 << number) != 0) {
        match groups.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => groups.push((number, 1)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let span = |data| Span { first: 0, count: 64, data };
        assert_eq!(groups(span(0)), []);
        assert_eq!(groups(span(u64::MAX)), [(0, 64)]);
        assert_eq!(groups(span(0b1011)), [(0, 2), (3, 1)]);
        assert_eq!(groups(Span { first: 0, count: 2, data: u64::MAX }), [(0, 2)]);
    }
}
