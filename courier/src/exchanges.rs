//! The exchanges of the contract.

use longshore_schema::wire::names;

/// How an exchange compares keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Equal.
    Direct,
    /// By words between dots; `*` is one word, `#` is any number of words, none included.
    Topic,
}

/// All of them, alphabetical.
pub(crate) const EXCHANGES: &[(&str, Kind)] = &[
    (names::COMMANDS, Kind::Topic),
    (names::CONTROL, Kind::Direct),
    (names::EVENTS, Kind::Topic),
    (names::REPORTS, Kind::Topic),
    (names::STEPS, Kind::Topic),
];

/// The kind of an exchange; `None` if there is none of that name.
pub(crate) fn kind(exchange: &str) -> Option<Kind> {
    EXCHANGES.iter().find(|(name, _)| *name == exchange).map(|(_, kind)| *kind)
}
