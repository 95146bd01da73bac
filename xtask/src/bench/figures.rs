//! Runs `longshore-bench`, whose measurements print one JSON object a line, and prints them for people or programs.

use crate::{
    commands::services,
    output,
    project::{cargo, run as run_to_end, target},
    services::packages::{self, Package},
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{Read, pipe, stderr},
    process::{Command, Stdio},
    thread,
};

/// Builds it.
pub fn build() -> Result<()> {
    packages::install(&[Package::Postgresql])?;
    // As the tests are built, so that nothing is built twice; and not this program, which runs.
    let build = ["build", "--workspace", "--all-features", "--tests", "--bin", "longshore-bench"];
    run_to_end(cargo().args(build).stdout(Stdio::from(stderr())))
}

/// Runs it, beside the services if it needs them. What it printed.
pub fn measured(arguments: &[String], needs_services: bool) -> Result<Vec<Value>> {
    let (mut reader, writer) = pipe()?;
    let reading = thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).map(|_| said)
    });
    let mut command = Command::new(target().join("debug/longshore-bench"));
    command.args(arguments).stdout(writer);
    let status = match needs_services {
        true => services::while_running(true, &mut command),
        false => command.status().context("run longshore-bench"),
    };
    // It has the writing end too, and the reading ends with the last of them.
    drop(command);
    let said = reading.join().map_err(|_| anyhow::anyhow!("the thread that reads panicked"))??;
    let status = status?;
    if !status.success() {
        bail!("longshore-bench failed ({status})");
    }
    said.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read {line:?}"))).collect()
}

/// Prints figures: one object a line, or a name and a value.
pub fn print(figures: &[Value], json: bool) -> Result<()> {
    for line in figures {
        if json {
            output::line(line)?;
            continue;
        }
        // Percentiles are for the plot.
        let mut single = line.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array());
        single.try_for_each(|(name, value)| output::line(format_args!("{name:32} {value}")))?;
    }
    Ok(())
}
