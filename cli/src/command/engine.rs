//! `longshore engine`: decides, until it is asked to end. With the embedded broker the workers are here too.

use crate::{
    ask,
    embedded::{self, Embedded},
    ended::Ended,
    session::Session,
    shutdown,
};
use anyhow::anyhow;
use clap::Args;
use longshore_courier::Courier;
use longshore_engine::{config::Config, database::Database};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// `engine`
#[derive(Debug, Args)]
pub(crate) struct Engine {
    /// Embedded: long steps at once in each zone.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// Embedded: this host's name; the system's if absent.
    #[arg(long, env = "LONGSHORE_HOST", value_parser = super::worker::name)]
    host: Option<String>,
}

impl Engine {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let stop = shutdown::on_signal().map_err(Ended::Broken)?;
        match session.amqp("longshore engine").await? {
            Some(courier) => over_broker(session.database().await?, courier, stop).await,
            None => self.embedded(session, stop).await,
        }
    }

    async fn embedded(self, session: &Session, stop: CancellationToken) -> Result<(), Ended> {
        let socket = session.settings.socket().ok_or_else(ask::no_embedded_on_a_server)?;
        let database = session.database().await?;
        let lock = ask::lock(&database)?;
        let lock = lock.ok_or_else(|| Ended::Broken(anyhow!("another engine runs on this database: {}", socket.display())))?;
        let host = self.host.or_else(|| session.settings.file.host.clone()).unwrap_or_else(embedded::host_name);
        let options = embedded::Options { socket: socket.clone(), host, concurrency: self.concurrency };
        let mut embedded = Embedded::start(&database, lock, options).await.map_err(Ended::Broken)?;
        tracing::info!(socket = %socket.display(), "the engine takes commands");
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            error = embedded.failed() => Some(error),
        };
        embedded.stop().await;
        failed.map_or(Ok(()), |error| Err(Ended::Broken(error)))
    }
}

async fn over_broker(database: Database, courier: Arc<dyn Courier>, stop: CancellationToken) -> Result<(), Ended> {
    tracing::info!("the engine runs");
    let ended = longshore_engine::engine::run(database, courier.clone(), Config::default(), stop).await;
    courier.close().await;
    ended.map_err(Ended::Unreachable)
}
