//! `longshore worker`: does steps, until it is asked to end. It needs the broker and the places, no database.

use crate::{embedded, ended::Ended, session::Session, shutdown};
use clap::{Args, ValueEnum};
use longshore_schema::{site::is_name, wire::WorkerKind};
use longshore_workers::{config::Config, hypervisor::kvm, opener::HostOpener, steps, worker};
use std::{collections::BTreeMap, sync::Arc};

/// `worker`
#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// What kind of host this is.
    #[arg(long)]
    kind: Kind,
    /// Its zone, as in the site file.
    #[arg(long, env = "LONGSHORE_ZONE", value_parser = name)]
    zone: Option<String>,
    /// This host's name; the system's if absent.
    #[arg(long, env = "LONGSHORE_HOST", value_parser = name)]
    host: Option<String>,
    /// The worker's id, unique among all; HOST-KIND if absent.
    #[arg(long, env = "LONGSHORE_WORKER_ID")]
    id: Option<String>,
    /// Long steps at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// Seconds that steps under way are given to finish on SIGTERM; the rest is handed back.
    #[arg(long, default_value_t = 20)]
    drain_s: u32,
}

/// As in `WorkerKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Reads and writes directories of disk images.
    Kvm,
    /// Reaches stores only.
    Transfer,
}

impl From<Kind> for WorkerKind {
    fn from(kind: Kind) -> WorkerKind {
        match kind {
            Kind::Kvm => WorkerKind::Kvm,
            Kind::Transfer => WorkerKind::Transfer,
        }
    }
}

/// For clap: a name of a zone or host.
pub(crate) fn name(text: &str) -> Result<String, String> {
    is_name(text).then(|| text.to_owned()).ok_or_else(|| "use a-z, 0-9 and -, at most 63, and not `host`".into())
}

impl Worker {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let file = &session.settings.file;
        let zone = self.zone.or_else(|| file.zone.clone()).ok_or_else(|| Ended::usage("which zone? Give --zone"))?;
        let host = self.host.or_else(|| file.host.clone()).unwrap_or_else(embedded::host_name);
        let stop = shutdown::on_signal().map_err(Ended::Broken)?;
        let Some(courier) = session.amqp("longshore worker").await? else {
            let why = "a worker of its own needs a broker: set LONGSHORE_BROKER to amqp://…; with the embedded one, \
                       `longshore engine` has the workers in it";
            return Err(Ended::usage(why));
        };
        let mut config = Config::new(self.kind.into(), zone, host);
        config.worker = self.id.unwrap_or(config.worker);
        config.concurrency = self.concurrency;
        config.drain_s = self.drain_s;
        config.tools = match self.kind {
            Kind::Kvm => {
                kvm::clean_up();
                kvm::tools().await
            }
            Kind::Transfer => BTreeMap::new(),
        };
        worker::Worker::run(config, courier, steps::handlers(), Arc::new(HostOpener), stop).await.map_err(Ended::Unreachable)
    }
}
