//! Standard output: tables for people, JSON Lines for programs. Whoever reads it may go away (`| head -1`): that ends the
//! program, and quietly.

use anyhow::{Context, Error, Result};
use std::{
    fmt::{self, Display, Formatter},
    io::{ErrorKind, Write, stdout},
    process::ExitCode,
};

/// Nobody reads standard output any more.
#[derive(Debug)]
pub struct Unread;

impl Display for Unread {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for Unread {}

/// Prints a line, or several. The error is `Unread` if nobody reads any more.
pub fn line(text: impl Display) -> Result<()> {
    print(format_args!("{text}\n"))
}

/// Prints a text as it is. The error is `Unread` if nobody reads any more.
pub fn print(text: impl Display) -> Result<()> {
    let mut stdout = stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
        Err(e) => Err(e).context("write to standard output"),
    }
}

/// What a program ends with after an error. It says which, unless it is only that nobody reads.
pub fn failed(error: &Error) -> ExitCode {
    if error.is::<Unread>() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_reads_is_no_failure_whatever_was_being_printed() {
        let unread = Error::from(Unread).context("print the figures");
        assert_eq!(format!("{:?}", failed(&unread)), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", failed(&Error::msg("full"))), format!("{:?}", ExitCode::FAILURE));
    }
}
