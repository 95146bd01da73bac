//! `cargo xtask demo`: the main job on this machine, with nothing but Rust installed.

use crate::{
    child, project,
    services::packages::{self, Package},
};
use anyhow::Result;
use clap::Args;
use std::{
    ffi::OsString,
    process::{Command, ExitStatus},
};

/// Options of `longshore demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Passed on; `cargo xtask demo -- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Installs the tools that make and read disk images, builds, and runs `longshore demo`.
pub fn demo(demo: Demo) -> Result<ExitStatus> {
    packages::install(&[Package::E2fsprogs, Package::QemuUtils])?;
    let longshore = project::build("longshore")?;
    // Not through `cargo run`: paths of the caller stay relative to the caller's folder.
    child::status(Command::new(longshore).arg("demo").args(demo.arguments))
}
