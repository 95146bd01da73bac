//! `cargo xtask` that is asked to end while something runs, or that fails: nothing is left of what it started.

use longshore_tests::services::Services;
use rustix::process::Signal;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use xtask::services::process::Process;

/// Says where the services lie, and becomes the test with engines, workers and servers of its own.
const CHAOS: &str = "echo \"in $LONGSHORE_TEST_DIR\"; exec \"$0\" chaos:: --nocapture";

/// Ends with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        let Ok(None) = self.0.try_wait() else { return };
        let Ok(process) = Process::with_pid(self.0.id()) else { return };
        let _ = process.signal(Signal::TERM);
        if !process.wait(Duration::from_secs(60)).unwrap_or(false) {
            let _ = process.kill();
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_sigterm_to_xtask_alone_ends_all_that_it_started_and_removes_all_that_they_wrote() {
    let services = Services::from_env();
    let mut command = Command::new(&services.xtask);
    command.args(["services", "run", "--", "sh", "-c", CHAOS]).arg(std::env::current_exe().unwrap());
    command.env("LONGSHORE_CHAOS_KILLS", "1000").env_remove("LONGSHORE_CHAOS_REPORT");
    // Where our own services lie, not in their folder: paths of sockets may not get much longer.
    command.env("TMPDIR", services.dir.parent().unwrap());
    let mut started = Started(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(started.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let folder = lines.find_map(|line| line.strip_prefix("in ").map(PathBuf::from)).expect("it starts the services");
    assert!(lines.any(|line| line.contains("chaos: 1: ")), "it ended before the first kill");

    let xtask = Process::with_pid(started.0.id()).unwrap();
    let all = xtask.tree();
    let programs: Vec<_> = all.iter().filter_map(|it| std::fs::read_link(format!("/proc/{}/exe", it.pid)).ok()).collect();
    let is_longshore = |it: &PathBuf| it.file_name() == services.binary.file_name();
    assert!(programs.iter().any(is_longshore), "no engine and no worker runs: {programs:?}");
    xtask.signal(Signal::TERM).unwrap();
    assert_eq!(started.0.wait().unwrap().code(), Some(128 + Signal::TERM.as_raw()));
    let alive: Vec<_> = all.iter().filter(|it| it.is_alive()).collect();
    assert!(alive.is_empty(), "{alive:?} of {programs:?}");
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn services_that_cannot_be_remembered_are_not_started_and_leave_nothing() {
    let services = Services::from_env();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(&services.xtask);
    command.args(["services", "start"]).env("CARGO_TARGET_DIR", "/dev/null/target").env("TMPDIR", temporary.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("/dev/null/target"), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}
