//! What a copy of a step's message means, by how far its attempt got in this process.

use longshore_schema::step::Pace;

/// How far an attempt got in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was received and never started.
    Untouched,
    /// It was started.
    Begun,
    /// It was started, and its report was confirmed; or the engine was told that it won't start here.
    Reported,
}

/// What is to be done about a copy of an attempt that isn't in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It is this process's to do.
    New,
    /// Nothing: it is over.
    Over,
    /// It may have been started elsewhere: it is declined.
    Unsure,
}

/// What a delivery means; `fate`: what is remembered of its attempt.
pub fn meaning(pace: Pace, fate: Option<Fate>, redelivered: bool) -> Meaning {
    match (pace, fate, redelivered) {
        (_, Some(Fate::Reported), _) => Meaning::Over,
        (Pace::Short { .. }, Some(Fate::Begun), _) | (Pace::Short { .. }, None, true) => Meaning::Unsure,
        // Whether a long one starts is the engine's word, not this process's memory.
        (Pace::Long { .. }, Some(Fate::Begun | Fate::Untouched) | None, _)
        | (Pace::Short { .. }, Some(Fate::Untouched), _)
        | (Pace::Short { .. }, None, false) => Meaning::New,
    }
}
