//! `cargo xtask bench`: figures, each beside others from the same run.

use super::services;
use crate::{
    bench::data,
    project::{cargo, run as run_to_end, target},
    services::packages::{self, Package},
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::{
    io::stderr,
    process::{Command, ExitStatus, Stdio},
};

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Backups and restores of one disk, beside restic, rclone and nbdcopy.
    Data(data::Options),
    /// Operations of four steps that do nothing, beside the limits of broker and database.
    Engine(Engine),
}

/// How much of the engine's work is measured.
#[derive(Debug, Args)]
pub struct Engine {
    /// Operations submitted at once.
    #[arg(long, default_value_t = 2000)]
    operations: usize,
    /// Operations submitted one after the other.
    #[arg(long, default_value_t = 200)]
    alone: usize,
    /// Unstarted steps in a queue of the broker; 64 is the engine's own.
    #[arg(long, default_value_t = 64)]
    queue_depth: u16,
    /// Engines side by side, in one process.
    #[arg(long, default_value_t = 1)]
    engines: usize,
    /// On SQLite and channels in one process, instead of PostgreSQL with fsync and RabbitMQ.
    #[arg(long)]
    embedded: bool,
    /// JSON Lines on standard output; all else on standard error.
    #[arg(long)]
    json: bool,
}

/// Measures it.
pub fn run(what: Bench) -> Result<Option<ExitStatus>> {
    match what {
        Bench::Data(options) => data::run(&options).map(|()| None),
        Bench::Engine(options) => engine(&options).map(Some),
    }
}

fn engine(options: &Engine) -> Result<ExitStatus> {
    packages::install(&[Package::Postgresql])?;
    // As the tests are built, so that nothing is built twice; and not this program, which runs.
    let build = ["build", "--workspace", "--all-features", "--tests", "--bin", "longshore-bench"];
    run_to_end(cargo().args(build).stdout(Stdio::from(stderr())))?;
    let mut command = Command::new(target().join("debug/longshore-bench"));
    let parts = if options.embedded { "engine-embedded" } else { "engine" };
    let form = if options.json { "json" } else { "text" };
    let numbers = [options.operations, options.alone, options.queue_depth.into(), options.engines].map(|it| it.to_string());
    command.arg(parts).args(numbers).arg(form);
    match options.embedded {
        true => command.status().context("run longshore-bench"),
        false => services::while_running(true, &mut command),
    }
}
