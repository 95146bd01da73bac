//! The steps: one verb each, done by one worker. A step's struct holds what is known when the plan is made;
//! its input is what earlier steps of the same operation reported.

pub mod object;
pub mod sweep;
pub mod volume;

pub use crate::step::Step;

/// One line for each step, alphabetical; a repeated name is an error at start.
pub const NAMES: &[&str] = &[
    <object::Commit as Step>::NAME,
    <object::Copy as Step>::NAME,
    <object::Discard as Step>::NAME,
    <object::Probe as Step>::NAME,
    <object::Transfer as Step>::NAME,
    <object::Unlink as Step>::NAME,
    <object::Verify as Step>::NAME,
    <sweep::Delete as Step>::NAME,
    <sweep::List as Step>::NAME,
    <volume::Discard as Step>::NAME,
    <volume::Measure as Step>::NAME,
    <volume::Publish as Step>::NAME,
    <volume::Remove as Step>::NAME,
    <volume::Write as Step>::NAME,
];

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_alphabetical() {
        assert!(super::NAMES.is_sorted_by(|a, b| a < b), "{:?}", super::NAMES);
    }
}
