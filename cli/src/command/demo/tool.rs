//! Runs the tools of the demo's: those that make and compare disks.

use anyhow::{Context, bail};
use std::{ffi::OsStr, path::Path, process::Stdio};
use tokio::process::Command;

/// Where tools of the system's are that an ordinary user's PATH may lack.
const MORE_PATHS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Runs a tool to its end and returns what it said. An error has the tool's own words.
pub(super) async fn run<Word: AsRef<OsStr>>(tool: &str, words: impl IntoIterator<Item = Word>) -> anyhow::Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(tool);
    command.args(words).env("PATH", format!("{path}:{MORE_PATHS}")).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let package = match tool {
        "mke2fs" | "debugfs" | "e2fsck" => "e2fsprogs",
        "cp" => "coreutils",
        _ => "qemu-utils",
    };
    let output = command.output().await.with_context(|| format!("run {tool} (it is in the package {package})"))?;
    if !output.status.success() {
        bail!("{tool}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A path as QEMU's tools take it without looking for a protocol in it.
pub(super) fn file(path: &Path) -> String {
    path.display().to_string()
}
