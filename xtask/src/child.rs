//! Programs that end with this one. A SIGTERM or SIGINT that comes while some run is passed on to them and all of their
//! descendants, and this process goes on until they are gone; it kills those that take too long. One that comes while none
//! runs ends this process at once, as it would without us.

use crate::services::process::Process;
use anyhow::{Context, Result, ensure};
use rustix::{
    process::{Signal, getpgrp},
    termios::tcgetpgrp,
};
use std::{
    fs::File,
    process::{Child, ChildStdout, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    signal::unix::{self, SignalKind, signal},
};

/// How long they may take to end. RabbitMQ needs 2 to 6 s of it, on a busy machine many times that.
const LIMIT: Duration = Duration::from_secs(30);

/// What is known of all of them.
#[derive(Debug)]
struct Family {
    running: Vec<Process>,
    /// Whether signals come to us.
    listening: bool,
    /// Whether one came.
    asked_to_end: bool,
}

static FAMILY: Mutex<Family> = Mutex::new(Family { running: Vec::new(), listening: false, asked_to_end: false });

fn family() -> MutexGuard<'static, Family> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    process: Process,
}

/// Runs a command to its end.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    start(command)?.wait()
}

/// Starts a command. An error too if a signal came before: then nothing more is begun.
pub fn start(command: &mut Command) -> Result<Running> {
    let mut family = family();
    ensure!(!family.asked_to_end, "asked to end");
    if !family.listening {
        listen().context("listen for signals")?;
        family.listening = true;
    }
    let child = command.spawn().with_context(|| format!("run {:?}", command.get_program()))?;
    let process = Process::with_pid(child.id())?;
    family.running.push(process);
    Ok(Running { child, process })
}

impl Running {
    /// Its process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// The other end of its standard output, if that is a pipe; once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end; where a signal was passed on, for the end of its descendants too.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("wait for process {}", self.process.pid))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever passes a signal on keeps the lock until everybody is gone.
        family().running.retain(|it| *it != self.process);
    }
}

fn listen() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (terminate, interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    thread::spawn(move || runtime.block_on(take(terminate, interrupt)));
    Ok(())
}

async fn take(mut terminate: unix::Signal, mut interrupt: unix::Signal) {
    loop {
        let signal = tokio::select! {
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
        };
        pass_on(signal);
    }
}

fn pass_on(signal: Signal) {
    let mut family = family();
    family.asked_to_end = true;
    if family.running.is_empty() {
        leave(signal);
    }
    // They have it already, and some programs don't end at the first one.
    if signal == Signal::INT && has_the_terminal() {
        return;
    }
    for process in &family.running {
        if let Err(e) = process.end(signal, LIMIT) {
            eprintln!("end process {}: {e:#}", process.pid);
        }
    }
}

/// Whether an interrupt from the terminal comes to us, and so to those that we started: they are in our process group.
fn has_the_terminal() -> bool {
    File::open("/dev/tty").and_then(|terminal| Ok(tcgetpgrp(&terminal)?)).is_ok_and(|group| group == getpgrp())
}

#[expect(clippy::disallowed_methods, reason = "what the signal does where nobody listens; guards clean up")]
fn leave(signal: Signal) -> ! {
    std::process::exit(128 + signal.as_raw())
}
