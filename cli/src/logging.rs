//! Logs go to stderr, so that stdout is for results alone.

use crate::{arguments::LogFormat, ended::Ended};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. `filter` is as for `tracing`'s `EnvFilter`; without one, `verbose` counts: 0 says only what a person must look at.
/// Everything else about an operation is in its history.
pub(crate) fn start(filter: Option<&str>, verbose: u8, format: LogFormat) -> Result<(), Ended> {
    // What lapin calls an error is a connection that ends; our supervisor says what comes of it.
    let level = match verbose {
        0 => "error,lapin=off",
        1 => "info,lapin=off,sea_orm_migration=warn,sqlx=warn",
        2 => "info,longshore=debug,longshore_engine=debug,longshore_workers=debug,longshore_courier=debug",
        _ => "debug",
    };
    let filter = filter.unwrap_or(level);
    let filter = EnvFilter::try_new(filter).map_err(|error| Ended::usage(format!("read the log filter {filter:?}: {error}")))?;
    let to_stderr = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => to_stderr.json().try_init(),
        LogFormat::Text => to_stderr.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| Ended::Broken(anyhow::anyhow!("start logging: {error}")))
}
