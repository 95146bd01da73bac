//! Processes that we started, and how to end them and nobody else's. A process is remembered by its id and the
//! moment it started: an id alone may have been given to another process since. Signals go through a pidfd,
//! so that it can't change between the look and the signal.

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

/// One process, for ever the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    started: u64,
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

impl Process {
    /// The process that has this id now.
    pub fn with_pid(pid: u32) -> Result<Process> {
        let stat = Stat::of(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Process { pid, started: stat.started })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Its descendants and itself, itself first.
    pub fn tree(&self) -> Vec<Process> {
        let mut found = vec![];
        if !self.is_alive() {
            return found;
        }
        let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
        let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some(stat) = Stat::of(pid) {
                children.entry(stat.parent).or_default().push(Process { pid, started: stat.started });
            }
        }
        let mut left = vec![*self];
        while let Some(process) = left.pop() {
            found.push(process);
            left.extend(children.remove(&process.pid).unwrap_or_default());
        }
        found
    }

    /// Sends `signal` if it still runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self.open()? {
            None => Ok(()),
            Some(fd) => match pidfd_send_signal(&fd, signal) {
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(e) => Err(e).with_context(|| format!("send {signal:?} to process {}", self.pid)),
            },
        }
    }

    /// Waits until it has ended; whether it did within `limit`.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let Some(fd) = self.open()? else { return Ok(true) };
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs().try_into()?, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => (),
                Err(e) => return Err(e).with_context(|| format!("wait for process {}", self.pid)),
            }
        }
    }

    /// Sends `signal` to it and its descendants, and waits until none is left; kills those that take longer than `limit`.
    pub fn end(&self, signal: Signal, limit: Duration) -> Result<()> {
        let all = self.tree();
        // A process that was stopped takes the signal when it goes on.
        let sent = all.iter().flat_map(|it| [it.signal(signal), it.signal(Signal::CONT)]).fold(Ok(()), Result::and);
        let until = Instant::now() + limit;
        for process in &all {
            if !process.wait(until.saturating_duration_since(Instant::now()))? {
                process.kill()?;
            }
        }
        sent
    }

    /// Ends it and its descendants at once and waits until none is left.
    pub fn kill(&self) -> Result<()> {
        let all = self.tree();
        for process in &all {
            process.signal(Signal::KILL)?;
        }
        for process in &all {
            if !process.wait(Duration::from_secs(30))? {
                bail!("process {} survived SIGKILL for 30 s", process.pid);
            }
        }
        Ok(())
    }

    /// A handle on it; `None` if it is gone.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid.try_into()?).context("process id 0")?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The handle was opened first: if the process behind the id is the right one now, the handle is on it.
            Ok(fd) => Ok(self.is_alive().then_some(fd)),
            Err(Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("open process {}", self.pid)),
        }
    }
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in parentheses may hold spaces and parentheses: count from the last one.
    fn parse(text: &str) -> Option<Stat> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Stat { state, parent, started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        os::unix::process::ExitStatusExt,
        process::{Child, Command, Stdio},
    };

    /// A shell that has said `started`, and its process.
    fn shell(script: &str) -> (Child, Process) {
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
        let process = Process::with_pid(child.id()).unwrap();
        (child, process)
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = Stat::parse("7 (a) b) S 3 7 7 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 207063 3133440 413").unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('S', 3, 207063));
    }

    #[test]
    fn killing_a_process_ends_its_descendants_too() {
        let (mut child, process) = shell("sleep 600 & echo started; wait");
        let tree = process.tree();
        assert_eq!(tree.len(), 2, "{tree:?}");
        process.kill().unwrap();
        assert!(tree.iter().all(|p| !p.is_alive()));
        child.wait().unwrap();
    }

    #[test]
    fn a_signal_goes_to_descendants_too_and_to_those_that_were_stopped() {
        let (mut child, process) = shell("sleep 600 & echo started; wait");
        let tree = process.tree();
        process.signal(Signal::STOP).unwrap();
        process.end(Signal::TERM, Duration::from_secs(60)).unwrap();
        assert!(tree.len() == 2 && tree.iter().all(|p| !p.is_alive()), "{tree:?}");
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    }

    #[test]
    fn who_does_not_heed_a_signal_is_killed_after_the_limit() {
        let (mut child, process) = shell("trap '' TERM; sleep 600 & echo started; wait");
        let tree = process.tree();
        process.end(Signal::TERM, Duration::ZERO).unwrap();
        assert!(tree.len() == 2 && tree.iter().all(|p| !p.is_alive()), "{tree:?}");
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn another_process_with_the_same_id_is_left_alone() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let ours = Process::with_pid(child.id()).unwrap();
        let stale = Process { started: ours.started - 1, ..ours };
        stale.kill().unwrap();
        assert!(stale.wait(Duration::ZERO).unwrap(), "the stale one counts as gone");
        assert!(ours.is_alive() && !ours.wait(Duration::ZERO).unwrap());
        ours.kill().unwrap();
        child.wait().unwrap();
    }
}
