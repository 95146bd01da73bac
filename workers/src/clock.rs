//! The database's clock, as far as a worker can know it. An announcement's answer says what that clock showed
//! at some instant after the announcement was sent; so at any later instant it shows at most that plus the
//! time since the sending. Only this upper bound is used: a step is rather not started than started late.
//!
//! **Invariant**: no answer, however late, makes `left` longer than the truth by more than the clocks' drift.

use longshore_schema::time::Timestamp;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A tighter bound than the newest is kept that long.
const KEEP: Duration = Duration::from_secs(60);
/// Two clocks run apart by at most one part in this many.
const DRIFT: u32 = 5_000;
/// A wait looks again after this long, since the bound may have become tighter.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of the database's clock.
#[derive(Debug, Default)]
pub(crate) struct DatabaseClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the earliest announcement that may still be answered was sent.
    asked: Option<Instant>,
    bound: Option<Bound>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    now: Timestamp,
    asked: Instant,
    answered: Instant,
}

impl Bound {
    /// The latest time that the database's clock can show at `instant`.
    fn at(&self, instant: Instant) -> Timestamp {
        let passed = instant.saturating_duration_since(self.asked);
        let passed = passed + passed / DRIFT;
        Timestamp(self.now.0.saturating_add(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl DatabaseClock {
    /// An announcement is being sent.
    pub(crate) fn asked(&self, at: Instant) {
        self.lock().asked.get_or_insert(at);
    }

    /// The engine answered that the database's clock showed `now`. An answer to no question says nothing.
    pub(crate) fn answered(&self, now: Timestamp, at: Instant) {
        let mut state = self.lock();
        let Some(asked) = state.asked.take() else { return };
        let new = Bound { now, asked, answered: at };
        // The old bound is wrong if the clock already shows more: it was set forward.
        let old = state
            .bound
            .filter(|old| at.saturating_duration_since(old.answered) < KEEP && old.at(at) >= now && old.at(at) <= new.at(at));
        state.bound = Some(old.unwrap_or(new));
    }

    /// How long it is surely still before `limit`; zero once it may be past, or while nothing is known.
    pub(crate) fn left(&self, limit: Timestamp, at: Instant) -> Duration {
        let Some(bound) = self.lock().bound else { return Duration::ZERO };
        Duration::from_micros(u64::try_from(limit.0.saturating_sub(bound.at(at).0)).unwrap_or(0))
    }

    /// Whether it may be past `limit`.
    pub(crate) fn is_past(&self, limit: Timestamp) -> bool {
        self.left(limit, Instant::now()).is_zero()
    }

    /// Resolves when it may be past `limit`.
    pub(crate) async fn passed(&self, limit: Timestamp) {
        loop {
            let left = self.left(limit, Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_000_000_000_000);

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn nothing_is_surely_before_anything_until_an_announcement_was_answered() {
        let (clock, start) = (DatabaseClock::default(), Instant::now());
        clock.answered(NOON, start);
        assert_eq!(clock.left(NOON.plus_s(3600), start), Duration::ZERO, "nobody asked");
        clock.asked(start);
        clock.answered(NOON, start);
        assert_eq!(clock.left(NOON.plus_s(3600), start), seconds(3600));
    }

    #[test]
    fn a_slow_answer_counts_from_the_question() {
        let (clock, start) = (DatabaseClock::default(), Instant::now());
        clock.asked(start);
        clock.answered(NOON, start + seconds(4));
        let left = clock.left(NOON.plus_s(10), start + seconds(5));
        assert!(left <= seconds(5) && left > seconds(4), "{left:?}");
    }

    #[test]
    fn an_answer_that_may_belong_to_a_lost_question_does_not_loosen_a_fresh_bound() {
        let (clock, start) = (DatabaseClock::default(), Instant::now());
        clock.asked(start);
        clock.answered(NOON, start);
        clock.asked(start + seconds(10));
        clock.asked(start + seconds(20));
        clock.answered(NOON.plus_s(20), start + seconds(20));
        let left = clock.left(NOON.plus_s(25), start + seconds(20));
        assert!(left > seconds(4), "{left:?}");
    }

    #[test]
    fn a_clock_that_was_set_forward_is_believed() {
        let (clock, start) = (DatabaseClock::default(), Instant::now());
        clock.asked(start);
        clock.answered(NOON, start);
        clock.asked(start + seconds(1));
        clock.answered(NOON.plus_s(500), start + seconds(1));
        assert_eq!(clock.left(NOON.plus_s(400), start + seconds(1)), Duration::ZERO);
    }

    #[test]
    fn an_old_bound_gives_way() {
        let (clock, start) = (DatabaseClock::default(), Instant::now());
        clock.asked(start);
        clock.answered(NOON, start);
        clock.asked(start + seconds(100));
        clock.answered(NOON.plus_s(50), start + seconds(100));
        assert!(clock.left(NOON.plus_s(60), start + seconds(100)) > seconds(9), "the clock was set back");
    }
}
