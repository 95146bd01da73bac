//! `cargo xtask test`: everything that is tested, on real services.

use super::services;
use crate::{
    project::{build_with_tests, cargo},
    services::{install, packages::Package},
};
use anyhow::Result;
use clap::Args;
use std::{ffi::OsString, process::ExitStatus};

/// What the tests run, besides the services.
pub const TOOLS: [Package; 3] = [Package::E2fsprogs, Package::Openssl, Package::QemuUtils];

/// Which tests, and how.
#[derive(Debug, Args)]
pub struct Test {
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<OsString>,
    /// Leave PostgreSQL's fsync on.
    #[arg(long)]
    durable: bool,
    /// For `cargo test`, after `--`: more of its options, and after another `--`, options of the tests.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Installs, builds, starts the services, runs the tests, and stops the services. The last lines are `cargo test`'s.
pub fn test(test: Test) -> Result<ExitStatus> {
    install(&TOOLS)?;
    // Before the services start.
    build_with_tests("longshore")?;
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features"]).args(test.filter).args(test.arguments);
    services::while_running(test.durable, &mut command)
}
