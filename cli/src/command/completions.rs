//! `longshore completions SHELL`: for the shell's folder of completions.

use crate::{arguments::Arguments, ended::Ended};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell's.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<(), Ended> {
        let mut text = vec![];
        clap_complete::generate(self.shell, &mut Arguments::command(), "longshore", &mut text);
        crate::print::Printer { json: false }.text(String::from_utf8_lossy(&text).trim_end())
    }
}
