//! PostgreSQL, from Debian's package, over a new data directory.

use super::{
    account::Account,
    packages::newest,
    ports::Ports,
    probe::Probe,
    secret,
    service::{End, Service},
};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, path::Path};

/// A server that runs.
#[derive(Debug)]
pub struct Postgres {
    /// How to stop it and start it again.
    pub service: Service,
    /// The superuser's address of the database `postgres`.
    pub url: String,
    _ports: Ports,
}

/// What a crash of the machine, not of a process, would cost: nothing that a test's database needs to survive.
const FAST: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

/// Starts one in `scratch`. `durable` leaves its guarantees on, for measurements.
pub fn start(scratch: &Path, durable: bool) -> Result<Postgres> {
    let programs = newest("/usr/lib/postgresql", "", "bin").context("PostgreSQL is not installed")?;
    let ports = Ports::reserve(1)?;
    let port = ports.numbers[0];
    let mut service = Service {
        name: "postgres".into(),
        scratch: scratch.into(),
        program: programs.join("postgres"),
        args: vec![],
        env: BTreeMap::new(),
        account: Account::to_drop_to("postgres")?,
        probe: Probe::Postgres { port },
        end: End::Interrupt,
        litter: vec![],
    };
    let folder = service.make_folder()?;
    let data = folder.join("data").display().to_string();
    let password = secret::password();
    service.write("password", 0o400, &password)?;
    let made = service
        .command(&programs.join("initdb"))
        .args(["--pgdata", &data, "--username=postgres", "--pwfile=password", "--auth=scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"])
        .output()
        .context("run initdb")?;
    if !made.status.success() {
        bail!("initdb failed:\n{}", String::from_utf8_lossy(&made.stderr));
    }
    let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=400", "log_min_messages=warning"];
    let fast = FAST.iter().filter(|_| !durable);
    // It believes that its predecessor still runs while nobody has reaped it.
    service.litter = vec![folder.join("data/postmaster.pid")];
    service.args = ["-D", &data, "-p", &port.to_string()].map(String::from).into();
    service.args.extend(settings.iter().chain(fast).flat_map(|setting| ["-c".to_string(), setting.to_string()]));
    service.start()?;
    Ok(Postgres { service, url: format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres"), _ports: ports })
}
