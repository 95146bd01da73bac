//! `cargo xtask bench`: figures, each beside others from the same run.

use crate::bench::{data, engine, growth};
use anyhow::Result;
use clap::Subcommand;
use std::process::ExitStatus;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Backups and restores of one disk, beside restic, rclone and nbdcopy.
    Data(data::Options),
    /// Operations of four steps that do nothing, beside the limits of broker and database.
    Engine(engine::Options),
    /// What is asked every day, on an empty database, on a small one and on one with ten million operations.
    Growth(growth::Options),
}

/// Measures it.
pub fn run(what: Bench) -> Result<Option<ExitStatus>> {
    match what {
        Bench::Data(options) => data::run(&options),
        Bench::Engine(options) => engine::run(&options),
        Bench::Growth(options) => growth::run(&options),
    }
    .map(|()| None)
}
