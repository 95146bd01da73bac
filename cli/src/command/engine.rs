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
use longshore_engine::{config::Config, database::Database, http};
use std::{net::SocketAddr, sync::Arc};
use tokio::task::JoinHandle;
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
    /// Answer HTTP at this address: operations, history, events, metrics. One that isn't loopback needs a token.
    #[arg(long, value_name = "ADDRESS:PORT", env = "LONGSHORE_LISTEN")]
    listen: Option<SocketAddr>,
    /// What HTTP clients must show as bearer token: `env:NAME` or `file:PATH`.
    #[arg(long, value_name = "REFERENCE", env = "LONGSHORE_HTTP_TOKEN", requires = "listen")]
    http_token: Option<String>,
}

impl Engine {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let stop = shutdown::on_signal().map_err(Ended::Broken)?;
        match session.amqp("longshore engine").await? {
            Some(courier) => {
                let database = session.database().await?;
                let http = self.listen(&database, &courier, &stop).await?;
                let ended = over_broker(database, courier, stop).await;
                end_of(http).await;
                ended
            }
            None => self.embedded(session, stop).await,
        }
    }

    async fn embedded(self, session: &Session, stop: CancellationToken) -> Result<(), Ended> {
        let socket = session.settings.socket().ok_or_else(ask::no_embedded_on_a_server)?;
        let database = session.database().await?;
        let lock = ask::lock(&database)?;
        let lock = lock.ok_or_else(|| Ended::Broken(anyhow!("another engine runs on this database: {}", socket.display())))?;
        let host = self.host.clone().or_else(|| session.settings.file.host.clone()).unwrap_or_else(embedded::host_name);
        let options = embedded::Options { socket: socket.clone(), host, concurrency: self.concurrency };
        let mut embedded = Embedded::start(&database, lock, options).await.map_err(Ended::Broken)?;
        let http = self.listen(&database, &embedded.courier(), &stop).await?;
        tracing::info!(socket = %socket.display(), "the engine takes commands");
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            error = embedded.failed() => Some(error),
        };
        stop.cancel();
        end_of(http).await;
        embedded.stop().await;
        failed.map_or(Ok(()), |error| Err(Ended::Broken(error)))
    }

    /// Answers HTTP if it was asked to.
    async fn listen(
        &self,
        database: &Database,
        courier: &Arc<dyn Courier>,
        stop: &CancellationToken,
    ) -> Result<Option<JoinHandle<anyhow::Result<()>>>, Ended> {
        let Some(address) = self.listen else { return Ok(None) };
        let options = http::Options { address, token: self.http_token.clone() };
        let server = http::Server::bind(&options).await.map_err(Ended::Broken)?;
        tracing::info!(address = %server.address().map_err(Ended::Broken)?, "HTTP is answered");
        Ok(Some(tokio::spawn(server.run(database.clone(), courier.clone(), stop.clone()))))
    }
}

async fn end_of(http: Option<JoinHandle<anyhow::Result<()>>>) {
    if let Some(Ok(Err(error))) = futures::future::OptionFuture::from(http).await {
        tracing::warn!(error = format!("{error:#}"), "HTTP ended badly");
    }
}

async fn over_broker(database: Database, courier: Arc<dyn Courier>, stop: CancellationToken) -> Result<(), Ended> {
    tracing::info!("the engine runs");
    let ended = longshore_engine::engine::run(database, courier.clone(), Config::default(), stop).await;
    courier.close().await;
    ended.map_err(Ended::Unreachable)
}
