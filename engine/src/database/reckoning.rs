//! The database's time between two readings of it: what was read last, and how long ago that was by this process's own
//! monotonic clock.
//!
//! **Invariant**: never later than the database's time, since a reading counts from when it arrived. It may be earlier by
//! more than a moment if this machine was stopped, when its clocks stand still: who writes by it lets the database compare
//! (`journal::bulk`).

use longshore_schema::time::Timestamp;
use std::time::{Duration, Instant};

/// A reading is good for so long.
const TRUSTED: Duration = Duration::from_secs(1);

/// Microseconds by which the database's clock may be ahead of what was reckoned when it is written.
pub(crate) const TOLERANCE_US: i64 = 1_000_000;

/// The last reading.
#[derive(Debug, Default)]
pub(crate) struct Reckoning(Option<(Timestamp, Instant)>);

impl Reckoning {
    /// A reading has arrived.
    pub(crate) fn read(&mut self, now: Timestamp) {
        self.0 = Some((now, Instant::now()));
    }

    /// The time now, if the last reading isn't too old.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        let (then, at) = self.0?;
        let elapsed = at.elapsed();
        let micros = i64::try_from(elapsed.as_micros()).ok()?;
        (elapsed < TRUSTED).then(|| Timestamp(then.0.saturating_add(micros)))
    }

    /// The next time is read.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_good_for_a_second() {
        let ago = |ms| Reckoning(Instant::now().checked_sub(Duration::from_millis(ms)).map(|at| (Timestamp(7_000_000), at)));
        assert_eq!(Reckoning::default().now(), None);
        assert!(ago(500).now().is_none_or(|it| it >= Timestamp(7_500_000)), "it never goes back");
        assert!(ago(0).now().is_none_or(|it| it >= Timestamp(7_000_000)));
        assert_eq!(ago(1000).now(), None);
    }
}
