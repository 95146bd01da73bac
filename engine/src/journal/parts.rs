//! What becomes of a batch whose transaction fails: it is tried once more if somebody else was faster, and then its halves are,
//! so that what is bad ends up alone. Decides only: the journal's task does it, and the simulation's engines.

use crate::database::Failed;
use std::time::Duration;

/// How often an item that is alone is tried.
const TRIES: u32 = 12;

/// The parts of a batch that wait for their transaction.
#[derive(Debug)]
pub struct Parts<T> {
    /// The last is the next.
    waiting: Vec<Part<T>>,
}

/// What is absorbed in one transaction.
#[derive(Debug)]
pub struct Part<T> {
    items: Vec<T>,
    /// How often its transaction failed.
    failures: u32,
}

/// What is next after a failure.
#[derive(Debug, PartialEq)]
pub enum Then<T> {
    /// The same part again, at once.
    Again,
    /// The same part, one item, after about that time.
    AgainAfter(Duration),
    /// Its first half.
    Halves,
    /// Others: this item can't be absorbed.
    GaveUp(T),
}

impl<T> Parts<T> {
    /// All of it is one part at first.
    pub fn of(batch: Vec<T>) -> Parts<T> {
        Parts { waiting: vec![Part::new(batch)] }
    }

    /// The next part; `None` if there is nothing left to do.
    pub fn take(&mut self) -> Option<Part<T>> {
        self.waiting.pop()
    }

    /// The transaction of a part that was taken failed: nothing of it was written, or it isn't known whether it was.
    pub fn failed(&mut self, part: Part<T>, failed: &Failed) -> Then<T> {
        let failures = part.failures + 1;
        match <[T; 1]>::try_from(part.items) {
            Ok([item]) => match pause(failed, failures) {
                Some(pause) => {
                    self.waiting.push(Part { items: vec![item], failures });
                    Then::AgainAfter(pause)
                }
                None => Then::GaveUp(item),
            },
            // Mostly something remembered that another engine changed: now everything is read.
            Err(items) if failures == 1 && matches!(failed, Failed::Conflict(_)) => {
                self.waiting.push(Part { items, failures });
                Then::Again
            }
            Err(mut items) => {
                let second = items.split_off(items.len() / 2);
                // Nothing has no halves.
                self.waiting.extend([second, items].into_iter().filter(|it| !it.is_empty()).map(Part::new));
                Then::Halves
            }
        }
    }
}

impl<T> Part<T> {
    fn new(items: Vec<T>) -> Part<T> {
        Part { items, failures: 0 }
    }

    /// What is in it.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// What was in it.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

/// How long one item waits: after a conflict a little, for a database that is away as long as it takes within reason.
fn pause(failed: &Failed, failures: u32) -> Option<Duration> {
    let ms = match failed {
        Failed::Conflict(_) if failures < TRIES => 2 << failures.min(7),
        Failed::Database(_) if failures < TRIES => 100 << failures.min(6),
        Failed::Conflict(_) | Failed::Database(_) | Failed::Internal(_) => return None,
    };
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::DbErr;

    fn conflict() -> Failed {
        Failed::Conflict("somebody was faster".into())
    }

    fn away() -> Failed {
        Failed::Database(DbErr::Custom("away".into()))
    }

    fn internal() -> Failed {
        Failed::Internal(anyhow::anyhow!("it can't be written"))
    }

    /// Transactions that end well, and items that are given up. `end` says how the next transaction ends.
    fn run(batch: Vec<u32>, mut end: impl FnMut(&[u32]) -> Result<(), Failed>) -> (Vec<Vec<u32>>, Vec<u32>) {
        let (mut parts, mut absorbed, mut given_up) = (Parts::of(batch), vec![], vec![]);
        while let Some(part) = parts.take() {
            match end(part.items()) {
                Ok(()) => absorbed.push(part.into_items()),
                Err(failed) => match parts.failed(part, &failed) {
                    Then::GaveUp(item) => given_up.push(item),
                    Then::Again | Then::AgainAfter(_) | Then::Halves => (),
                },
            }
        }
        (absorbed, given_up)
    }

    #[test]
    fn what_is_bad_ends_up_alone_and_the_others_keep_their_order() {
        let (absorbed, given_up) = run((0..7).collect(), |items| if items.contains(&4) { Err(internal()) } else { Ok(()) });
        assert_eq!((absorbed, given_up), (vec![vec![0, 1, 2], vec![3], vec![5, 6]], vec![4]));
    }

    #[test]
    fn a_batch_is_tried_again_after_its_first_conflict_and_halved_after_anything_else() {
        let all = || vec![1, 2, 3, 4];
        let halves = || vec![vec![1, 2], vec![3, 4]];
        for (ends, expected) in [
            (vec![conflict()], vec![all()]),
            (vec![conflict(), conflict()], halves()),
            (vec![conflict(), away()], halves()),
            (vec![away()], halves()),
            (vec![internal()], halves()),
        ] {
            let said = format!("{ends:?}");
            let mut ends = ends.into_iter();
            assert_eq!(run(all(), |_| ends.next().map_or(Ok(()), Err)), (expected, vec![]), "{said}");
        }
    }

    #[test]
    fn one_item_is_tried_a_few_times_unless_that_cannot_help() {
        let failures: [(fn() -> Failed, u32); 3] = [(conflict, TRIES), (away, TRIES), (internal, 1)];
        for (failure, expected) in failures {
            let mut tries = 0;
            let (absorbed, given_up) = run(vec![7], |_| {
                tries += 1;
                Err(failure())
            });
            assert_eq!((absorbed, given_up, tries), (vec![], vec![7], expected), "{}", failure());
        }
    }

    #[test]
    fn one_item_waits_longer_each_time_and_never_for_long() {
        for failure in [conflict(), away()] {
            let pauses: Vec<_> = (1..TRIES).map_while(|failures| pause(&failure, failures)).collect();
            assert_eq!(pauses.len(), TRIES as usize - 1);
            assert!(pauses[0] < pauses[1] && pauses.is_sorted() && pauses[10] < Duration::from_secs(10), "{pauses:?}");
        }
    }

    #[test]
    fn nothing_is_not_halved_for_ever() {
        assert_eq!(run(vec![], |_| Err(away())), (vec![], vec![]));
    }
}
