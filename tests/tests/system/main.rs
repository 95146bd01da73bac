//! Whole-system tests, on real services; `cargo xtask test` starts those and runs these.

mod faults;
mod generic;
mod rig;
mod services;
mod walkthrough;
