//! The database's time between two readings of it: what was read last, and how long ago that was by this process's own
//! monotonic clock.
//!
//! **Invariant**: a reckoned time alone decides nothing. Mostly it is earlier than the database's by a moment, since a
//! reading counts from when it arrived. It is earlier by more if this machine was stopped, when its clocks stand still, and
//! later if the database's clock was set back. So who writes by it lets the database compare (`journal::bulk`), which
//! refuses what is further from its own time than `TOLERANCE_US`, either way.

use longshore_schema::time::Timestamp;
use std::time::{Duration, Instant};

/// A reading is good for so long.
const TRUSTED: Duration = Duration::from_secs(1);

/// Microseconds by which the database's clock may be ahead of what was reckoned, or behind it, when it is written.
pub(crate) const TOLERANCE_US: i64 = 1_000_000;

/// The last reading, and when it arrived.
#[derive(Debug, Default)]
pub(crate) struct Reckoning(Option<(Timestamp, Instant)>);

impl Reckoning {
    /// A reading has arrived.
    pub(crate) fn read(&mut self, time: Timestamp, arrived: Instant) {
        self.0 = Some((time, arrived));
    }

    /// The time at that instant, if the last reading isn't too old then.
    pub(crate) fn at(&self, instant: Instant) -> Option<Timestamp> {
        let (time, arrived) = self.0?;
        let elapsed = instant.saturating_duration_since(arrived);
        let micros = i64::try_from(elapsed.as_micros()).ok()?;
        (elapsed < TRUSTED).then(|| Timestamp(time.0.saturating_add(micros)))
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
    fn a_reading_goes_on_for_a_second_and_no_longer() {
        let arrived = Instant::now();
        let after = |micros| arrived + Duration::from_micros(micros);
        let mut reckoning = Reckoning::default();
        assert_eq!(reckoning.at(arrived), None, "nothing was read");
        reckoning.read(Timestamp(7_000_000), arrived);
        for (micros, reckoned) in [(0, Some(7_000_000)), (1, Some(7_000_001)), (999_999, Some(7_999_999)), (1_000_000, None)] {
            assert_eq!(reckoning.at(after(micros)), reckoned.map(Timestamp), "{micros} us after it arrived");
        }
    }

    #[test]
    fn the_last_reading_counts_also_if_it_is_earlier_and_none_once_it_is_forgotten() {
        let arrived = Instant::now();
        let mut reckoning = Reckoning::default();
        reckoning.read(Timestamp(7_000_000), arrived);
        reckoning.read(Timestamp(5_000_000), arrived);
        assert_eq!(reckoning.at(arrived + Duration::from_millis(500)), Some(Timestamp(5_500_000)));
        reckoning.forget();
        assert_eq!(reckoning.at(arrived), None);
    }
}
