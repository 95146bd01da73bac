//! Runs `longshore-bench`, whose measurements print one JSON object a line, and prints them for people or programs.

use crate::{
    commands::services,
    output, project,
    services::packages::{self, Package},
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{Read, pipe},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// Builds it. Where it is.
pub fn build() -> Result<PathBuf> {
    packages::install(&[Package::Postgresql])?;
    project::build("longshore-bench")
}

/// Runs it, beside the services if it needs them. What it printed.
pub fn measured(program: &Path, arguments: &[String], needs_services: bool) -> Result<Vec<Value>> {
    let (mut reader, writer) = pipe()?;
    let reading = thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).map(|_| said)
    });
    let mut command = Command::new(program);
    command.args(arguments).stdout(writer);
    let status = match needs_services {
        true => services::while_running(true, &mut command),
        false => services::in_scratch(&mut command),
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
