//! Services end with the run that started them, however it ends: a second process waits until the first one's
//! end of a pipe is closed, which the kernel does after an interrupt and a SIGKILL too, and then stops them.

use super::scratch;
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, stdin},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Stops the services of one scratch folder when it goes.
#[derive(Debug)]
pub struct Guard {
    waiting: Child,
}

impl Guard {
    /// Starts guarding. `this` is the program whose arguments `services guard --dir DIR` call `wait_and_stop`.
    pub fn new(this: &Path, folder: &Path) -> Result<Guard> {
        let mut command = Command::new(this);
        command.args(["services", "guard", "--dir"]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null());
        // Not in our process group: an interrupt from the terminal must not end it.
        let waiting = command.process_group(0).spawn().context("start the guard of the services")?;
        Ok(Guard { waiting })
    }

    /// Stops the services now.
    pub fn stop(mut self) -> Result<()> {
        drop(self.waiting.stdin.take());
        let status = self.waiting.wait()?;
        ensure!(status.success(), "the services did not stop");
        Ok(())
    }
}

/// The other process: returns when the services are stopped.
pub fn wait_and_stop(folder: &Path) -> Result<()> {
    stdin().read_to_end(&mut vec![]).context("wait for the end of the run")?;
    scratch::stop(folder)
}
