//! The tools of QEMU's on this host.

use std::{collections::BTreeMap, process::Stdio};
use tokio::process::Command;

/// What a worker of this kind runs (`qemu-img`, `qemu-nbd`), and what an operator may want to know about.
const TOOLS: &[&str] = &["qemu-img", "qemu-nbd"];

/// Versions by the tool's name; a tool that isn't there, or says nothing, is left out.
pub async fn tools() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for tool in TOOLS {
        let mut command = Command::new(tool);
        command.arg("--version").env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        if let Ok(said) = command.output().await
            && let Some(version) = version(&String::from_utf8_lossy(&said.stdout))
        {
            found.insert((*tool).to_owned(), version);
        }
    }
    found
}

/// `qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)` and `qemu-nbd 10.0.2 (…)` have it before the parenthesis.
fn version(said: &str) -> Option<String> {
    let before = said.lines().next()?.split('(').next()?;
    before.split_whitespace().last().filter(|it| it.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
}
