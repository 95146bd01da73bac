//! `cargo xtask chaos`: a load of every kind of operation, while parts of Longshore and of what it stands on are
//! killed and stopped at random; then everything is read back. The same seed kills in the same order.

use super::{services, test::TOOLS};
use crate::{
    output,
    project::{build_with_tests, cargo},
    services::install,
};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use std::{
    fs,
    io::{ErrorKind, stderr},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

/// The test that does it; `cargo xtask test` runs it with few kills.
const TEST: &str = "chaos::";

/// How long, and from which seed.
#[derive(Debug, Args)]
pub struct Chaos {
    /// How often something is killed or stopped.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(1..=100_000))]
    kills: u64,
    /// What decides who dies when; random if absent, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// JSON Lines on standard output, at the end; all else on standard error.
    #[arg(long)]
    json: bool,
}

/// The lines that a run wrote. They go with this.
struct Lines(PathBuf);

impl Drop for Lines {
    fn drop(&mut self) {
        // A run that ended early has written none.
        let _ = fs::remove_file(&self.0);
    }
}

/// Builds, starts the services, runs it, and stops the services.
pub fn chaos(chaos: Chaos) -> Result<ExitStatus> {
    install(&TOOLS)?;
    build_with_tests("longshore")?;
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features", "--test", "system", TEST, "--", "--nocapture"]);
    command.env("LONGSHORE_CHAOS_KILLS", chaos.kills.to_string());
    command.envs(chaos.seed.map(|seed| ("SEED", seed.to_string())));
    let lines = Lines(std::env::temp_dir().join(format!("longshore-chaos-{}.jsonl", std::process::id())));
    if chaos.json {
        command.env("LONGSHORE_CHAOS_REPORT", &lines.0).stdout(Stdio::from(stderr()));
    }
    let status = services::while_running(false, &mut command)?;
    if chaos.json {
        match fs::read_to_string(&lines.0) {
            Err(e) if e.kind() == ErrorKind::NotFound && !status.success() => (),
            said => output::print(said.context("read what the run wrote")?)?,
        }
    }
    Ok(status)
}
