//! Measurements: what an operation costs beside what the machine, the broker and the database allow in the same
//! run. Ratios to those limits are what can be carried to another machine.

mod counted;
pub mod data;
pub mod engine;
pub mod growth;
pub mod limits;
pub mod marks;
pub mod trace;
pub mod usage;
