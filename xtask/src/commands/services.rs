//! `cargo xtask services`: the services of the tests by hand, to debug a test or to try something.

use crate::{
    output, project,
    services::{self, Services, guard, scratch, service::Service},
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
        /// postgres, rabbitmq, epmd or s3.
        name: String,
        /// Where it is.
        #[command(flatten)]
        which: Which,
    },
    /// End one with SIGKILL, as a crash does.
    Kill {
        /// postgres, rabbitmq, epmd or s3.
        name: String,
        /// Where it is.
        #[command(flatten)]
        which: Which,
    },
    /// Start them, run a command that finds them in its environment, and stop them, whatever happens.
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
    let folder = scratch::make()?;
    eprintln!("starting PostgreSQL, RabbitMQ and SeaweedFS in {}", folder.display());
    let guard = guard::Guard::new(&std::env::current_exe()?, &folder)?;
    let result = Services::start(&folder, python, durable).and_then(|running| {
        command.envs(running.environment(&folder));
        // `running` lives on meanwhile: it keeps the ports of a service that a test kills and starts again.
        command.status().with_context(|| format!("run {:?}", command.get_program()))
    });
    let stopped = guard.stop();
    let status = result?;
    stopped?;
    Ok(status)
}

fn start(durable: bool) -> Result<()> {
    let link = last_started();
    if let Ok(folder) = fs::read_link(&link) {
        ensure!(!folder.exists(), "services run in {} already; `cargo xtask services stop` ends them", folder.display());
    }
    let python = services::install(&[])?;
    let folder = scratch::make()?;
    eprintln!("starting PostgreSQL, RabbitMQ and SeaweedFS in {}", folder.display());
    fs::create_dir_all(project::target())?;
    match fs::remove_file(&link) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context("forget the services of before"),
        Ok(()) | Err(_) => symlink(&folder, &link)?,
    }
    let running = match Services::start(&folder, python, durable) {
        Ok(running) => running,
        Err(e) => {
            stop(&folder)?;
            return Err(e);
        }
    };
    let lines: Vec<String> =
        running.environment(&folder).iter().map(|(key, value)| format!("export {key}='{value}'\n")).collect();
    File::options().write(true).create_new(true).mode(0o600).open(folder.join("env"))?.write_all(lines.concat().as_bytes())?;
    output::print(lines.concat())
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
