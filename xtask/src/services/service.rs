//! One service: a command that can be started again over the same data on the same ports, after it was killed
//! too. It is written to `NAME.json` in the scratch folder, its process to `NAME.pid`, so that anyone who knows
//! the folder can stop it, kill it or start it again.

use super::{account::Account, probe::Probe, process::Process};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a start may take. RabbitMQ needs 5 s of processor time, on a busy machine many times that.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How a service is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// SIGINT, then SIGKILL: PostgreSQL gives back its shared memory.
    Interrupt,
    /// SIGKILL at once: the data is scratch, and an orderly end takes RabbitMQ 2 to 6 s and SeaweedFS 31.
    Kill,
}

/// A command to start, and when it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Unique in its scratch folder.
    pub name: String,
    /// The scratch folder. The service has the folder of its name in it, for itself alone.
    pub scratch: PathBuf,
    /// What to run.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides PATH, LANG, HOME and TMPDIR (its folder).
    pub env: BTreeMap<String, String>,
    /// Under which account, if not ours.
    pub account: Option<Account>,
    /// When it is ready.
    pub probe: Probe,
    /// How it ends.
    pub end: End,
    /// Files that it leaves outside of its folder, or that keep it from starting after it was killed.
    pub litter: Vec<PathBuf>,
}

impl Service {
    /// The service `name` that was started in `scratch`.
    pub fn load(scratch: &Path, name: &str) -> Result<Service> {
        read_json(&scratch.join(format!("{name}.json")))
    }

    /// All services in `scratch` and in the scratch folders in it, whether they run or not.
    pub fn all(scratch: &Path) -> Result<Vec<Service>> {
        let mut found = vec![];
        for entry in fs::read_dir(scratch).with_context(|| format!("list {}", scratch.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                found.push(read_json(&path)?);
            } else if path.join("scratch").is_file() {
                found.extend(Service::all(&path)?);
            }
        }
        Ok(found)
    }

    /// The service's own folder.
    pub fn folder(&self) -> PathBuf {
        self.scratch.join(&self.name)
    }

    /// Makes the service's own folder, which nobody else can read.
    pub fn make_folder(&self) -> Result<PathBuf> {
        let folder = self.folder();
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        self.account.map_or(Ok(()), |account| account.own(&folder))?;
        Ok(folder)
    }

    /// Writes a file into the service's own folder.
    pub fn write(&self, name: &str, mode: u32, content: &str) -> Result<()> {
        let path = self.folder().join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        self.account.map_or(Ok(()), |account| account.own(&path))
    }

    /// A command in the service's folder, under its account, with its environment and nothing else of ours.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(["HOME", "TMPDIR"].map(|name| (name, self.folder()))).env("LANG", "C.UTF-8").envs(&self.env);
        command.current_dir(self.folder()).stdin(Stdio::null());
        // With a uid, the standard library also drops root's supplementary groups.
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Result<()> {
        ensure!(!self.process().is_some_and(|p| p.is_alive()), "{} runs already", self.name);
        self.tidy_up()?;
        write_json(&self.scratch.join(format!("{}.json", self.name)), self)?;
        let log = File::options().create(true).append(true).open(self.log())?;
        // A process group of its own: an interrupt from the terminal is for us, not for the services.
        let mut child = self
            .command(&self.program)
            .args(&self.args)
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let process = Process::with_pid(child.id())?;
        write_json(&self.scratch.join(format!("{}.pid", self.name)), &process)?;
        thread::spawn(move || child.wait());
        self.wait_until_ready(process)
    }

    /// The process of its last start.
    pub fn process(&self) -> Option<Process> {
        read_json(&self.scratch.join(format!("{}.pid", self.name))).ok()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process().is_some_and(|process| process.is_alive())
    }

    /// Ends it, and waits for that. Fine if it doesn't run.
    pub fn stop(&self) -> Result<()> {
        let Some(process) = self.process() else { return Ok(()) };
        match self.end {
            End::Kill => process.kill()?,
            End::Interrupt => {
                let tree = process.tree();
                process.signal(Signal::INT)?;
                process.wait(Duration::from_secs(10))?;
                tree.iter().try_for_each(Process::kill)?;
            }
        }
        self.tidy_up()
    }

    /// SIGKILL to it and its children, as in a crash, and waits until they are gone.
    pub fn kill(&self) -> Result<()> {
        self.process().map_or(Ok(()), |process| process.kill())?;
        self.tidy_up()
    }

    /// SIGSTOP to it and its children: it is there, and does nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT, after a pause.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process().with_context(|| format!("{} never started", self.name))?;
        process.tree().iter().try_for_each(|it| it.signal(signal))
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        self.scratch.join(format!("{}.log", self.name))
    }

    /// Only while it doesn't run.
    fn tidy_up(&self) -> Result<()> {
        self.litter.iter().filter(|path| path.exists()).try_for_each(fs::remove_file).context("remove what the service left")
    }

    fn wait_until_ready(&self, process: Process) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        while !self.probe.answers() {
            if process.wait(Duration::from_millis(20))? {
                bail!("{} ended before it was ready\n{}", self.name, self.last_words());
            }
            if Instant::now() > until {
                bail!("{} was not ready after {} s\n{}", self.name, START_LIMIT.as_secs(), self.last_words());
            }
        }
        ensure!(process.is_alive(), "{} ended at once; something else answers on port {}", self.name, self.probe.port());
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(value)?).with_context(|| format!("write {}", path.display()))
}
