//! A program that ends with its worker, however that ends: it is started by a shell that holds the reading end of a pipe,
//! whose other end only the worker has. When the worker is killed, the pipe ends, and the shell kills the program.
//! (`PR_SET_PDEATHSIG` would be tied to the thread that started it, and comes too late for a worker that dies at once.)

use std::{ffi::OsStr, io, process::Stdio};
use tokio::process::{Child, ChildStdin, Command};

/// The shell gives on what the program's end says: its code, or 128 and the number of the signal. Who watches the pipe comes
/// first, and kills the whole group: when the shell dies before it has started the program, there is nothing to kill.
const SCRIPT: &str = r#"
exec 3<&0
{ read -r _ <&3; kill -9 0; } 2>/dev/null &
watch=$!
"$@" </dev/null 3<&- &
program=$!
exec 3<&-
wait "$program"
code=$?
kill "$watch" 2>/dev/null
exit "$code"
"#;

/// How a tied program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It isn't here, or can't be executed.
    NotStarted,
    /// A signal ended it, or its shell.
    Killed,
    /// By itself, with this code.
    Code(i32),
}

/// A program that is running. Dropping it kills the program.
#[derive(Debug)]
pub(super) struct Tied {
    shell: Child,
    /// Kept open as long as the program may run.
    _tie: Option<ChildStdin>,
}

impl Tied {
    /// Starts a program with no input and no output; what it says to standard error is to be taken from `Tied::errors`.
    pub(super) fn start(program: &str, arguments: &[&OsStr]) -> io::Result<Tied> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "sh", program]).args(arguments).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A group of its own, which is killed as a whole. An interrupt from the terminal is for the worker, which ends its programs
        // itself.
        let mut shell = command.process_group(0).kill_on_drop(true).spawn()?;
        // Taken, as waiting for a child closes its input first.
        let _tie = shell.stdin.take();
        Ok(Tied { shell, _tie })
    }

    /// What it says to standard error; once.
    pub(super) fn errors(&mut self) -> Option<tokio::process::ChildStderr> {
        self.shell.stderr.take()
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> io::Result<End> {
        let end = match self.shell.wait().await?.code() {
            Some(126 | 127) => End::NotStarted,
            None | Some(128..) => End::Killed,
            Some(code) => End::Code(code),
        };
        Ok(end)
    }

    /// What the death of the worker does.
    #[cfg(test)]
    pub(super) fn untie(&mut self) {
        self._tie = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn start(script: &str) -> Tied {
        Tied::start("sh", &["-c", script].map(OsStr::new)).unwrap()
    }

    #[tokio::test]
    async fn every_end_is_told() {
        assert_eq!(start("exit 0").ended().await.unwrap(), End::Code(0));
        assert_eq!(start("exit 3").ended().await.unwrap(), End::Code(3));
        assert_eq!(start("kill -9 $$").ended().await.unwrap(), End::Killed);
        let mut missing = Tied::start("no-such-program", &[]).unwrap();
        assert_eq!(missing.ended().await.unwrap(), End::NotStarted);
    }

    #[tokio::test]
    async fn it_ends_with_the_pipe_and_when_it_is_dropped() {
        let mut killed = start("exec sleep 1000");
        killed.untie();
        assert_eq!(killed.ended().await.unwrap(), End::Killed);

        let mut dropped = start("echo started >&2; exec sleep 1000");
        let mut errors = dropped.errors().unwrap();
        let mut said = [0; 8];
        errors.read_exact(&mut said).await.unwrap();
        drop(dropped);
        // The program has the other end of this pipe: it ends when the program has ended.
        errors.read_to_end(&mut vec![]).await.unwrap();
    }

    #[tokio::test]
    async fn however_soon_it_is_dropped_nothing_goes_on_running() {
        let many = (0..32).map(|which| async move {
            let mut dropped = start("echo started >&2; exec sleep 1000");
            let mut errors = dropped.errors().unwrap();
            if which % 2 == 0 {
                errors.read_exact(&mut [0; 8]).await.unwrap();
            }
            drop(dropped);
            errors.read_to_end(&mut vec![]).await.unwrap();
        });
        futures::future::join_all(many).await;
    }
}
