//! What a broker may do on a bad day, done on purpose and repeatably: the simulation's couriers use it.

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
}

/// What happens to one published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// How many times it is put into each queue.
    pub(super) copies: usize,
    /// Whether the publisher learns of it.
    pub(super) confirmed: bool,
}

/// Draws fates.
#[derive(Debug)]
pub(super) struct Dice {
    chaos: Chaos,
    rng: StdRng,
}

impl Fate {
    /// Without mischief.
    pub(super) const PLAIN: Fate = Fate { copies: 1, confirmed: true };
}

impl Dice {
    pub(super) fn new(chaos: Chaos) -> Dice {
        Dice { chaos, rng: StdRng::seed_from_u64(chaos.seed) }
    }

    pub(super) fn fate(&mut self) -> Fate {
        let confirmed = !self.happens(self.chaos.lose);
        let arrives = confirmed || self.happens(0.5);
        let twice = self.happens(self.chaos.double);
        let copies = match (arrives, twice) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        Fate { copies, confirmed }
    }

    /// The place at which a message enters a queue of `waiting` others.
    pub(super) fn place(&mut self, waiting: usize) -> usize {
        if self.happens(self.chaos.reorder) { self.rng.random_range(0..=waiting) } else { waiting }
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability.clamp(0.0, 1.0))
    }
}
