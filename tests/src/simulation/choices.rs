//! Every decision of a schedule, from its seed. A decision depends on the seed, on where it is taken and on how
//! often it was taken there, so leaving one fault out leaves most of the others as they were.

use std::collections::BTreeSet;

/// Where a decision is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// What the schedule consists of.
    Plan,
    /// How long something takes.
    Delay,
    /// Who gets something.
    Who,
    /// What a step does.
    Work,
    /// Whether something goes wrong.
    Fault,
}

/// Where in the life of steps most goes wrong in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    /// Nowhere more than anywhere else.
    Nowhere,
    /// While an object is committed: it may or may not count.
    Commits,
    /// While data is copied, which takes long.
    Copies,
    /// Between the message of a short step and its report.
    ShortSteps,
    /// Between the message of a long step and the word that it may start.
    Starts,
    /// While something is undone, or it is looked whether it must be.
    Undos,
    /// While several wait for space: little of it is there, and much is asked for. Nothing goes wrong here more than anywhere else.
    Waits,
}

/// The decisions of one schedule.
#[derive(Debug)]
pub(super) struct Choices {
    seed: u64,
    taken: [u64; 5],
    /// Faults that happened or were left out: each has a number.
    faults: u32,
    /// Faults that still may happen.
    budget: u32,
    without: BTreeSet<u32>,
    /// Whether things take long in this schedule.
    slow: bool,
    /// Whether only a few kinds of faults happen in this schedule, and those often.
    swarm: bool,
    focus: Focus,
}

impl Choices {
    /// Those of a seed, without some of its faults. `about`: where most goes wrong, whatever the seed says.
    pub(super) fn new(seed: u64, without: BTreeSet<u32>, about: Option<Focus>) -> Choices {
        let focus = match mix(seed ^ 0x466F_6375) % 10 {
            0 => Focus::Commits,
            1 => Focus::Copies,
            2 => Focus::ShortSteps,
            3 => Focus::Starts,
            4 => Focus::Undos,
            5 => Focus::Waits,
            _ => Focus::Nowhere,
        };
        Choices {
            seed,
            taken: [0; 5],
            faults: 0,
            budget: 0,
            without,
            slow: mix(seed).is_multiple_of(3),
            swarm: mix(seed ^ 0x5377_6172).is_multiple_of(2),
            focus: about.unwrap_or(focus),
        }
    }

    /// How many faults may happen at most.
    pub(super) fn allow(&mut self, budget: u32) {
        self.budget = budget;
    }

    /// Numbers of faults given so far.
    pub(super) fn faults(&self) -> u32 {
        self.faults
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, at: At, limit: u64) -> u64 {
        let taken = &mut self.taken[at as usize];
        *taken += 1;
        let mixed = mix(self.seed ^ mix(at as u64 + 1) ^ mix(taken.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        mixed % limit.max(1)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, at: At, n: u64) -> bool {
        self.below(at, n) == 0
    }

    /// Whether this kind of fault happens here: usually once in `n` times while any may. In each schedule some kinds
    /// are much more frequent and others don't happen, so that rare ones meet. Its number is for leaving it out.
    pub(super) fn fault(&mut self, kind: &str, n: u64) -> Option<u32> {
        let kind = kind.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)).wrapping_add(1));
        let often = match (self.swarm, mix(kind) % 4) {
            (_, 0) => n.div_ceil(8),
            (true, _) | (false, 1) => return None,
            (false, _) => n,
        };
        // What a schedule is about shows best among few others.
        let often = if self.focus == Focus::Nowhere { often } else { often * 3 };
        self.one_fault_in(often)
    }

    fn one_fault_in(&mut self, often: u64) -> Option<u32> {
        if self.budget == 0 || !self.one_in(At::Fault, often) {
            return None;
        }
        self.budget -= 1;
        self.faults += 1;
        (!self.without.contains(&self.faults)).then_some(self.faults)
    }

    /// The same, and in a schedule about this part of the life of steps it happens there, sixteen times as often.
    pub(super) fn fault_at(&mut self, here: &[Focus], kind: &str, n: u64) -> Option<u32> {
        if !here.contains(&self.focus) {
            return self.fault(kind, n);
        }
        self.one_fault_in(n.div_ceil(16))
    }

    /// Whether the schedule is about this part of the life of steps.
    pub(super) fn is_about(&self, focus: Focus) -> bool {
        self.focus == focus
    }

    /// Mostly short, sometimes long, microseconds.
    pub(super) fn delay(&mut self) -> i64 {
        let (short, long) = if self.slow { (50, 80) } else { (80, 97) };
        let ms = match self.below(At::Delay, 100) {
            part if part < short => self.below(At::Delay, 50),
            part if part < long => self.below(At::Delay, 3_000),
            _ => self.below(At::Delay, 30_000),
        };
        ms as i64 * 1000 + 1
    }
}

/// SplitMix64's finalizer.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
