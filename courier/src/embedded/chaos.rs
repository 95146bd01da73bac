//! What a broker may do on a bad day, done on purpose, repeatably and counted: the couriers of whole-system tests use it.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How often each mischief happens, as probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chaos {
    /// The same seed and the same calls give the same mischief.
    pub seed: u64,
    /// A message is put into its queue twice.
    pub double: f64,
    /// A message overtakes any number of those that wait.
    pub reorder: f64,
    /// The publisher is told `Unconfirmed`; half of those messages arrive nevertheless.
    pub lose: f64,
    /// An exchange whose first messages meet each mischief whatever the dice say, so that even a short test meets it: the
    /// first is lost, the second comes twice, and its second copy after the third.
    pub certain: Option<&'static str>,
}

/// How often each mischief was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mischief {
    /// Messages that came twice.
    pub doubled: usize,
    /// Messages that never arrived. Their publishers know.
    pub dropped: usize,
    /// How often a message and one that was published later changed places. Two copies of one message don't count.
    pub reordered: usize,
}

/// What happens to one published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// How many times it is put into each queue.
    pub(super) copies: usize,
    /// Whether one more copy comes after the next message of each queue.
    pub(super) late: bool,
    /// Whether the publisher learns of it.
    pub(super) confirmed: bool,
}

/// Draws fates.
#[derive(Debug)]
pub(super) struct Dice {
    chaos: Chaos,
    rng: StdRng,
    /// How many messages went to the exchange where mischief is certain.
    certain: u64,
    done: Mischief,
}

impl Fate {
    /// Without mischief.
    pub(super) const PLAIN: Fate = Fate { copies: 1, late: false, confirmed: true };
    const LOST: Fate = Fate { copies: 0, late: false, confirmed: false };
    const LATE: Fate = Fate { copies: 1, late: true, confirmed: true };
}

impl Dice {
    pub(super) fn new(chaos: Chaos) -> Dice {
        Dice { chaos, rng: StdRng::seed_from_u64(chaos.seed), certain: 0, done: Mischief::default() }
    }

    /// What happens to a message that is published to this exchange.
    pub(super) fn fate(&mut self, exchange: &str) -> Fate {
        let fate = self.certain_fate(exchange).unwrap_or_else(|| self.random_fate());
        self.done.doubled += usize::from(fate.copies == 2 || fate.late);
        self.done.dropped += usize::from(fate.copies == 0);
        fate
    }

    fn certain_fate(&mut self, exchange: &str) -> Option<Fate> {
        if self.chaos.certain != Some(exchange) {
            return None;
        }
        self.certain += 1;
        match self.certain {
            1 => Some(Fate::LOST),
            2 => Some(Fate::LATE),
            _ => None,
        }
    }

    fn random_fate(&mut self) -> Fate {
        let confirmed = !self.happens(self.chaos.lose);
        let arrives = confirmed || self.happens(0.5);
        let twice = self.happens(self.chaos.double);
        let copies = match (arrives, twice) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        Fate { copies, late: false, confirmed }
    }

    /// The place at which a message enters a queue of `waiting` others.
    pub(super) fn place(&mut self, waiting: usize) -> usize {
        if self.happens(self.chaos.reorder) { self.rng.random_range(0..=waiting) } else { waiting }
    }

    /// So many messages came after one that was published later.
    pub(super) fn reordered(&mut self, messages: usize) {
        self.done.reordered += messages;
    }

    /// What was done so far.
    pub(super) fn done(&self) -> Mischief {
        self.done
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability.clamp(0.0, 1.0))
    }
}
