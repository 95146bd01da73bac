//! Which bytes of a read have arrived: chunks may come in any order, but each byte exactly once.

use std::collections::BTreeMap;

/// Ranges that have arrived, merged: start to end. Its size is bounded by the read's length, since every
/// range holds at least a byte.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    ranges: BTreeMap<u64, u64>,
}

impl Coverage {
    /// Adds `start..end`. False if it is empty, or if a part of it was there already.
    pub(super) fn add(&mut self, mut start: u64, mut end: u64) -> bool {
        if start >= end {
            return false;
        }
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back() {
            if before_end > start {
                return false;
            }
            if before_end == start {
                start = before;
            }
        }
        if let Some((&after, &after_end)) = self.ranges.range(start + 1..).next() {
            if after < end {
                return false;
            }
            if after == end {
                self.ranges.remove(&after);
                end = after_end;
            }
        }
        self.ranges.insert(start, end);
        true
    }

    /// Whether all of `start..end` has arrived.
    pub(super) fn is_whole(&self, start: u64, end: u64) -> bool {
        start == end || self.ranges.get(&start) == Some(&end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_byte_is_taken_once_and_the_whole_is_known(ranges in prop::collection::vec((0u64..40, 0u64..12), 0..40)) {
            let mut coverage = Coverage::default();
            let mut model = [false; 64];
            for (start, len) in ranges {
                let end = start + len;
                let free = len > 0 && !model[start as usize..end as usize].contains(&true);
                prop_assert_eq!(coverage.add(start, end), free);
                if free {
                    model[start as usize..end as usize].fill(true);
                }
            }
            for start in 0..40 {
                for end in start + 1..52 {
                    let maximal = model[start..end].iter().all(|it| *it) && (start == 0 || !model[start - 1]) && !model[end];
                    prop_assert_eq!(coverage.is_whole(start as u64, end as u64), maximal);
                }
            }
        }
    }
}
