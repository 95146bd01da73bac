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
use longshore_engine::{
    config::Config,
    database::Database,
    http::{self, Server},
};
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
    /// Seconds that a long step goes on without an answer from here. Longer rides out longer outages of the broker and
    /// the database; shorter finds a dead worker sooner. All engines should have the same.
    #[arg(long, env = "LONGSHORE_LEASE_S", default_value_t = Config::default().lease_s, value_parser = clap::value_parser!(u32).range(5..=3600))]
    lease_s: u32,
    /// Serve HTTP for reading, there: a port is 127.0.0.1's; an address that isn't loopback needs --http-token.
    #[arg(long, env = "LONGSHORE_LISTEN", value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// The token that HTTP's readers show: a reference, env:NAME or file:PATH.
    #[arg(long, env = "LONGSHORE_HTTP_TOKEN", value_name = "REFERENCE")]
    http_token: Option<String>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|_| text.parse()).map_err(|_| "write ADDRESS:PORT, or a port of 127.0.0.1's".into())
}

impl Engine {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let stop = shutdown::on_signal().map_err(Ended::Broken)?;
        let http = self.listener(session).await?;
        match session.amqp("longshore engine").await? {
            Some(courier) => over_broker(session.database_in_time().await?, courier, self.config(), http, stop).await,
            None => self.embedded(session, http, stop).await,
        }
    }

    fn config(&self) -> Config {
        Config { lease_s: self.lease_s, ..Config::default() }
    }

    /// Bound before anything else is started: a port that is taken is no reason to stop half-way.
    async fn listener(&self, session: &Session) -> Result<Option<Server>, Ended> {
        let file = &session.settings.file;
        let said = file.listen.as_deref().map(address).transpose();
        let said = said.map_err(|why| Ended::usage(format!("`listen` in longshore.toml: {why}")))?;
        let Some(address) = self.listen.or(said) else { return Ok(None) };
        let token = self.http_token.clone().or_else(|| file.http_token.clone());
        Server::bind(&http::Options { address, token }).await.map(Some).map_err(Ended::Broken)
    }

    async fn embedded(self, session: &Session, http: Option<Server>, stop: CancellationToken) -> Result<(), Ended> {
        let socket = session.settings.socket().ok_or_else(ask::no_embedded_on_a_server)?;
        let database = session.database().await?;
        let lock = ask::lock(&database)?;
        let lock = lock.ok_or_else(|| Ended::Broken(anyhow!("another engine runs on this database: {}", socket.display())))?;
        let config = self.config();
        let host = self.host.or_else(|| session.settings.file.host.clone()).unwrap_or_else(embedded::host_name);
        let options = embedded::Options { socket: socket.clone(), host, concurrency: self.concurrency, config };
        let mut embedded = Embedded::start(&database, lock, options).await.map_err(Ended::Broken)?;
        let serving = serve(http, &database, embedded.courier(), &stop);
        tracing::info!(socket = %socket.display(), "the engine takes commands");
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            error = embedded.failed() => Some(error),
        };
        stop.cancel();
        ended(serving).await;
        embedded.stop().await;
        failed.map_or(Ok(()), |error| Err(Ended::Broken(error)))
    }
}

async fn over_broker(
    database: Database,
    courier: Arc<dyn Courier>,
    config: Config,
    http: Option<Server>,
    stop: CancellationToken,
) -> Result<(), Ended> {
    let serving = serve(http, &database, courier.clone(), &stop);
    tracing::info!("the engine runs");
    let result = longshore_engine::engine::run(database, courier.clone(), config, stop.clone()).await;
    stop.cancel();
    ended(serving).await;
    courier.close().await;
    result.map_err(Ended::Unreachable)
}

type Serving = Option<JoinHandle<anyhow::Result<()>>>;

fn serve(http: Option<Server>, database: &Database, courier: Arc<dyn Courier>, stop: &CancellationToken) -> Serving {
    http.map(|it| tokio::spawn(it.run(database.clone(), courier, stop.clone())))
}

async fn ended(serving: Serving) {
    if let Some(serving) = serving
        && let Err(error) = serving.await.map_err(anyhow::Error::new).and_then(|it| it)
    {
        tracing::error!(error = format!("{error:#}"), "the HTTP listener ended badly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_listens_on_loopback_only() {
        for (text, wanted) in
            [("8080", "127.0.0.1:8080"), (":8080", "127.0.0.1:8080"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::1]:2", "[::1]:2")]
        {
            assert_eq!(address(text).unwrap().to_string(), wanted);
        }
        assert!(address("everywhere").is_err());
    }
}
