//! Whole-system tests, on real services; `cargo xtask test` starts those and runs these.

mod backends;
mod faults;
mod generic;
mod requests;
mod rig;
mod services;
mod walkthrough;
