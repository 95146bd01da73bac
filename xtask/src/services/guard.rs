//! Services end with the run that started them, however it ends: a second process waits until the first one's
//! end of a pipe is closed, which the kernel does after an interrupt and a SIGKILL too, and then stops them.

use super::scratch;
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, stdin},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Stops the services of one scratch folder, and removes it, when it goes.
#[derive(Debug)]
pub struct Guard {
    folder: PathBuf,
    waiting: Child,
}

impl Guard {
    /// Makes a scratch folder and starts guarding it. The arguments `services guard --dir DIR` of this program must call
    /// `wait_and_stop`.
    pub fn new() -> Result<Guard> {
        let this = std::env::current_exe().context("find this program")?;
        let folder = scratch::make()?;
        match wait_elsewhere(&this, &folder) {
            Ok(waiting) => Ok(Guard { folder, waiting }),
            Err(e) => Err(scratch::removed_after(e, scratch::stop(&folder))),
        }
    }

    /// The scratch folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops the services and removes the folder now.
    pub fn stop(mut self) -> Result<()> {
        drop(self.waiting.stdin.take());
        let status = self.waiting.wait()?;
        ensure!(status.success(), "the services did not stop");
        Ok(())
    }
}

fn wait_elsewhere(this: &Path, folder: &Path) -> Result<Child> {
    let mut command = Command::new(this);
    command.args(["services", "guard", "--dir"]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null());
    // Not in our process group: an interrupt from the terminal must not end it.
    command.process_group(0).spawn().context("start the guard of the services")
}

/// The other process: returns when the services are stopped.
pub fn wait_and_stop(folder: &Path) -> Result<()> {
    stdin().read_to_end(&mut vec![]).context("wait for the end of the run")?;
    scratch::stop(folder)
}
