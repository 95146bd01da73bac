//! `cargo xtask services`: the services of the tests by hand, to debug a test or to try something.

use crate::{
    child, output, project,
    services::{
        self, Services,
        guard::{self, Guard},
        python::Python,
        scratch,
        service::Service,
    },
};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

/// What to do with them.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Start them, print how to find them (`eval "$(cargo xtask services start)"`), and leave them running.
    Start {
        /// Leave PostgreSQL's fsync on.
        #[arg(long)]
        durable: bool,
    },
    /// Stop them and remove their folder.
    Stop(Which),
    /// Say which run.
    Status(Which),
    /// Start one again, over its data and on its ports, after stopping it if it runs.
    Restart {
        /// postgres, rabbitmq, epmd, s3, swift, keystone or memcached.
        name: String,
        /// Where it is.
        #[command(flatten)]
        which: Which,
    },
    /// End one with SIGKILL, as a crash does.
    Kill {
        /// postgres, rabbitmq, epmd, s3, swift, keystone or memcached.
        name: String,
        /// Where it is.
        #[command(flatten)]
        which: Which,
    },
    /// Start them, run a command that finds them in its environment, and stop them, whatever happens. The command's folder for
    /// temporary files (TMPDIR) goes with them.
    Run {
        /// Leave PostgreSQL's fsync on.
        #[arg(long)]
        durable: bool,
        /// The command and its arguments, after `--`.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Wait for the end of standard input, then stop them.
    #[command(hide = true)]
    Guard(Which),
}

/// Which ones.
#[derive(Debug, Args)]
pub struct Which {
    /// Their scratch folder [default: the one that `start` made last for this clone].
    #[arg(long, env = "LONGSHORE_TEST_DIR")]
    dir: Option<PathBuf>,
}

impl Which {
    fn folder(&self) -> Result<PathBuf> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => fs::read_link(last_started()).context("no services were started by `cargo xtask services start`"),
        }
    }
}

/// Does it.
pub fn run(action: Action) -> Result<Option<ExitStatus>> {
    match action {
        Action::Start { durable } => start(durable)?,
        Action::Stop(which) => stop(&which.folder()?)?,
        Action::Status(which) => status(&which.folder()?)?,
        Action::Restart { name, which } => {
            let service = Service::load(&which.folder()?, &name)?;
            service.stop()?;
            service.start()?;
        }
        Action::Kill { name, which } => Service::load(&which.folder()?, &name)?.kill()?,
        Action::Run { durable, command } => {
            let (program, arguments) = command.split_first().context("no command")?;
            return while_running(durable, Command::new(program).args(arguments)).map(Some);
        }
        Action::Guard(which) => guard::wait_and_stop(&which.folder()?)?,
    }
    Ok(None)
}

/// Starts the services, runs `command` with their environment, and stops them. They are stopped too when this
/// process is interrupted or killed.
pub fn while_running(durable: bool, command: &mut Command) -> Result<ExitStatus> {
    let python = services::install(&[])?;
    guarded(|folder| {
        eprintln!("starting PostgreSQL, RabbitMQ, SeaweedFS, Swift and Keystone in {}", folder.display());
        let running = Services::start(folder, python, durable)?;
        command.envs(running.environment(folder));
        // `running` lives on meanwhile: it keeps the ports of a service that a test kills and starts again.
        run_in(folder, command)
    })
}

/// Runs `command` without services. What it leaves in its folder for temporary files goes when it ends, and when this process
/// is interrupted or killed.
pub fn in_scratch(command: &mut Command) -> Result<ExitStatus> {
    guarded(|folder| run_in(folder, command))
}

fn run_in(folder: &Path, command: &mut Command) -> Result<ExitStatus> {
    child::status(command.env("TMPDIR", scratch::temporary(folder)?))
}

/// Works in a scratch folder that is removed afterwards, with all that was started in it.
fn guarded<T>(work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let guard = Guard::new()?;
    let result = work(guard.folder());
    let stopped = guard.stop();
    let done = result?;
    stopped?;
    Ok(done)
}

fn start(durable: bool) -> Result<()> {
    if let Ok(folder) = fs::read_link(last_started()) {
        ensure!(!folder.exists(), "services run in {} already; `cargo xtask services stop` ends them", folder.display());
    }
    let python = services::install(&[])?;
    let folder = scratch::make()?;
    eprintln!("starting PostgreSQL, RabbitMQ, SeaweedFS, Swift and Keystone in {}", folder.display());
    match started(&folder, python, durable) {
        Ok(lines) => output::print(lines),
        Err(e) => Err(scratch::removed_after(e, stop(&folder))),
    }
}

/// Lines for a shell that say where they are.
fn started(folder: &Path, python: Python, durable: bool) -> Result<String> {
    remember(folder)?;
    let running = Services::start(folder, python, durable)?;
    let lines: Vec<String> = running.environment(folder).iter().map(|(key, value)| format!("export {key}='{value}'\n")).collect();
    File::options().write(true).create_new(true).mode(0o600).open(folder.join("env"))?.write_all(lines.concat().as_bytes())?;
    Ok(lines.concat())
}

fn remember(folder: &Path) -> Result<()> {
    let link = last_started();
    let target = project::target();
    fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
    match fs::remove_file(&link) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context("forget the services of before"),
        Ok(()) | Err(_) => symlink(folder, &link).with_context(|| format!("make {}", link.display())),
    }
}

fn stop(folder: &Path) -> Result<()> {
    scratch::stop(folder)?;
    if fs::read_link(last_started()).is_ok_and(|last| last == folder) {
        fs::remove_file(last_started())?;
    }
    Ok(())
}

fn status(folder: &Path) -> Result<()> {
    output::line(folder.display())?;
    let mut services = Service::all(folder)?;
    services.sort_by(|a, b| (&a.scratch, &a.name).cmp(&(&b.scratch, &b.name)));
    for service in services {
        let state = match (service.process(), service.is_running()) {
            (Some(process), true) => format!("process {}", process.pid),
            _ => "not running".into(),
        };
        let (name, port, log) = (&service.name, service.probe.port(), service.log());
        output::line(format_args!("{name:10} 127.0.0.1:{port:<6} {state:16} {}", log.display()))?;
    }
    Ok(())
}

/// A link to the scratch folder of the services that `start` started.
fn last_started() -> PathBuf {
    project::target().join("services")
}
