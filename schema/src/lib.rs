//! What engine and workers agree on: ids, faults, steps, messages, the site file and the tables. No I/O.

pub mod body;
pub mod bound;
pub mod fault;
pub mod ids;
#[cfg(feature = "database")]
pub mod migrations;
pub mod site;
pub mod step;
pub mod steps;
#[cfg(feature = "database")]
pub mod tables;
pub mod text;
pub mod time;
pub mod wire;
