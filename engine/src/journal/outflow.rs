//! How fast a broker's queue empties, and so how many unstarted steps it may hold: as many as leave it within a second,
//! so that none waits there for long and no worker waits for the next. Workers whose steps take minutes get few ahead.

use longshore_schema::time::Timestamp;

/// Microseconds over which what left a queue is counted before it says something.
const SPAN: i64 = 100_000;
/// After so many microseconds in which nothing was counted, nothing is known.
const FORGOTTEN: i64 = 5_000_000;
/// A queue holds no more than this many times what is configured.
const MOST: i64 = 16;

/// What left a queue, as one engine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outflow {
    since: Timestamp,
    left: i64,
    /// Within a second, over the last whole span.
    per_s: i64,
}

impl Outflow {
    /// Nothing is known yet.
    pub(super) fn new(now: Timestamp) -> Outflow {
        Outflow { since: now, left: 0, per_s: 0 }
    }

    /// So many steps left the queue. `now` is the transaction's time.
    pub(super) fn count(&mut self, now: Timestamp, left: i64) {
        let elapsed = now.0 - self.since.0;
        // A clock that went back starts again, too.
        if !(0..FORGOTTEN).contains(&elapsed) {
            *self = Outflow { left, ..Outflow::new(now) };
            return;
        }
        self.left += left;
        if elapsed >= SPAN {
            *self = Outflow { since: now, left: 0, per_s: self.left * 1_000_000 / elapsed };
        }
    }

    /// How many unstarted steps the queue may hold, where `least` are configured.
    pub(super) fn depth(self, now: Timestamp, least: i32) -> i32 {
        let known = (0..FORGOTTEN).contains(&(now.0 - self.since.0));
        let least = i64::from(least);
        let depth = if known { self.per_s.clamp(least, MOST * least) } else { least };
        i32::try_from(depth).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: i64) -> Timestamp {
        Timestamp(ms * 1000)
    }

    #[test]
    fn a_queue_holds_what_leaves_it_within_a_second() {
        let mut outflow = Outflow::new(at_ms(0));
        assert_eq!(outflow.depth(at_ms(0), 64), 64);
        for n in 1..=10 {
            outflow.count(at_ms(n * 20), 6);
        }
        assert_eq!(outflow.depth(at_ms(200), 64), 300);
        for n in 1..=10 {
            outflow.count(at_ms(200 + n * 20), 1000);
        }
        assert_eq!(outflow.depth(at_ms(400), 64), 16 * 64);
    }

    #[test]
    fn a_slow_queue_holds_what_is_configured() {
        let mut outflow = Outflow::new(at_ms(0));
        for n in 1..=10 {
            outflow.count(at_ms(n * 1000), 2);
            assert_eq!(outflow.depth(at_ms(n * 1000), 64), 64);
        }
    }

    #[test]
    fn what_was_fast_and_stands_still_is_forgotten() {
        let mut outflow = Outflow::new(at_ms(0));
        outflow.count(at_ms(100), 50);
        assert_eq!(outflow.depth(at_ms(5_000), 64), 500);
        assert_eq!(outflow.depth(at_ms(5_200), 64), 64);
        outflow.count(at_ms(9_000), 1);
        assert_eq!(outflow.depth(at_ms(9_000), 64), 64);
        // A clock that goes back.
        outflow.count(at_ms(9_100), 100);
        assert_eq!(outflow.depth(at_ms(8_000), 64), 64);
    }
}
