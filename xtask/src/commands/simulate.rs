//! `cargo xtask simulate`: the engine under a seeded scheduler with virtual time. Needs no service.

use crate::{child, project};
use anyhow::Result;
use clap::Args;
use std::{
    ffi::OsString,
    process::{Command, ExitStatus},
};

/// Options of the simulation.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Simulate {
    /// Passed on; `cargo xtask simulate --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds and runs it: a million schedules, or as many as the options say. Fails if one of them does.
pub fn simulate(simulate: Simulate) -> Result<ExitStatus> {
    let program = project::build("simulate")?;
    child::status(Command::new(program).args(simulate.arguments))
}
