//! Whole-system tests, on real services; `cargo xtask test` starts those and runs these.

#![expect(clippy::unwrap_used, reason = "in a test, what isn't there is a failure")]

mod backends;
mod chaos;
mod cloud;
mod command_line;
mod containers;
mod contract;
mod copies;
mod encryption;
mod faults;
mod generic;
mod golden;
mod growth;
mod held_pool;
mod history;
mod interrupted;
mod last_bytes;
mod meddler;
mod one_statement;
mod processes;
mod random_volumes;
mod requests;
mod rig;
mod services;
mod simulate;
mod simulation;
mod sparse;
mod store_exchanged;
mod store_faults;
mod store_leftovers;
mod tenants;
mod two_places;
mod waiting;
mod walkthrough;
