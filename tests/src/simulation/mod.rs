//! Runs the engine's own journal, clock and outbox decisions under a seeded scheduler with virtual time, against
//! a broker, workers, stores and a pool that are modelled here and misbehave as real ones may. What a schedule
//! does follows from its seed alone; a failing one is replayed by it, and shrunk.
//!
//! `docs/simulation.md` says what goes wrong on purpose, what is checked and how to use it.

mod acting;
mod broker;
mod causes;
mod check;
mod choices;
mod closing;
mod columns;
mod engines;
mod handing;
mod job;
mod judge;
mod known;
mod left;
mod line;
pub mod many;
mod mishaps;
pub mod mutants;
mod reports;
mod rules;
mod schedule;
mod sent;
mod setup;
mod shrink;
mod sqlite;
mod told;
mod words;
mod workers;
mod world;

pub use mutants::Bug;
pub use schedule::{Failure, Options, Ran, run};
pub use setup::Place;
pub use shrink::shrink;
