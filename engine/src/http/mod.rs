//! HTTP, for reading: operations, places, workers, events, metrics and health. Commands go through the broker.
//!
//! A listener on loopback is open to whoever is on the host; any other needs a token. Errors are `{"fault": …}`.

mod auth;
mod events;
mod listener;
mod metrics;
mod operations;
mod parameters;
mod patience;
mod places;
mod refusal;
mod seats;
#[cfg(test)]
mod tests;

use crate::database::{self, Database};
use anyhow::{Context, ensure};
use auth::Guard;
use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use events::Feed;
use listener::Limits;
use longshore_courier::Courier;
use longshore_schema::fault::{Fault, code};
use metrics::Counts;
use refusal::Refusal;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long the database may take to answer `/readyz`.
const READY_WITHIN: Duration = Duration::from_secs(3);

const INDEX: &str = "\
Longshore. Everything here is for reading; commands go through the broker.

/api/operations?state=&kind=&zone=&tenant=&after=&limit=   the newest first
/api/operations/{id}
/api/operations/{id}/history?after=&limit=                  the oldest first
/api/stores
/api/workers
/api/events                                                 server-sent events
/metrics                                                    for Prometheus
/healthz                                                    alive
/readyz                                                     database and broker answer
";

/// Where to listen, and who may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address. One that isn't loopback needs a token.
    pub address: SocketAddr,
    /// The bearer token that readers show: a reference, `env:NAME` or `file:PATH`, never the token itself.
    pub token: Option<String>,
}

/// A listener that is bound and doesn't answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    guard: Guard,
    limits: Limits,
}

/// What the handlers share.
struct App {
    database: Database,
    guard: Guard,
    feed: Feed,
    counts: Counts,
    link: watch::Receiver<u64>,
    reads: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves until `stop`, then lets requests under way end. Refuses an address that isn't loopback without a token.
pub async fn serve(
    options: Options,
    database: Database,
    courier: Arc<dyn Courier>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    Server::bind(&options).await?.run(database, courier, stop).await
}

impl Server {
    /// Reads the token and binds the address.
    pub async fn bind(options: &Options) -> anyhow::Result<Server> {
        let token = options.token.as_deref().map(auth::read_token).transpose()?;
        let loopback = options.address.ip().to_canonical().is_loopback();
        ensure!(
            loopback || token.is_some(),
            "{} is not a loopback address: give readers a token (`env:NAME` or `file:PATH`)",
            options.address
        );
        let listener = TcpListener::bind(options.address).await.with_context(|| format!("listen on {}", options.address))?;
        Ok(Server { listener, guard: Guard::new(token.as_deref()), limits: Limits::default() })
    }

    /// The address that it is bound to: with port 0, the port that the system chose.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("read the address of the listener")
    }

    /// Answers until `stop`, then lets requests under way end.
    pub async fn run(self, database: Database, courier: Arc<dyn Courier>, stop: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(address = %self.address()?, "listening for HTTP");
        let feed = Feed::default();
        let following = tokio::spawn(feed.clone().follow(courier.clone(), stop.clone()));
        let app = App {
            database,
            guard: self.guard,
            feed,
            counts: Counts::default(),
            link: courier.link(),
            reads: Arc::new(Semaphore::new(self.limits.reads)),
            probes: Arc::new(Semaphore::new(self.limits.probes)),
            streams: Arc::new(Semaphore::new(self.limits.streams)),
            stop: stop.clone(),
        };
        listener::run(self.listener, router(Arc::new(app)), self.limits, stop).await;
        following.await.context("the task that follows the events ended")
    }
}

fn router(app: Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/api/operations", get(operations::list))
        .route("/api/operations/{id}", get(operations::show))
        .route("/api/operations/{id}/history", get(operations::history))
        .route("/api/stores", get(places::stores))
        .route("/api/workers", get(places::workers))
        .route("/api/events", get(events::stream))
        .route("/metrics", get(metrics::show))
        .route_layer(from_fn_with_state(app.clone(), read_in_turn))
        .route_layer(from_fn_with_state(app.clone(), auth::admit));
    let ready = Router::new().route("/readyz", get(ready)).route_layer(from_fn_with_state(app.clone(), probe_in_turn));
    let open = Router::new().route("/", get(async || INDEX)).route("/healthz", get(async || "alive\n"));
    open.merge(ready)
        .merge(guarded)
        .fallback(async || Refusal::not_found(code::COMMAND_MALFORMED, "there is no such page; / lists them"))
        .method_not_allowed_fallback(async || Refusal::only_reading())
        .layer(from_fn_with_state(app.clone(), auth::check_host))
        .with_state(app)
}

/// What reads the database is limited: however slow it is, most connections are free for who asks whether we are alive.
async fn read_in_turn(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let _permit = app.reads.try_acquire().map_err(|_| too_many())?;
    Ok(next.run(request).await)
}

/// Apart from readers: who asks whether the engine is ready mustn't hear that it isn't because many read.
async fn probe_in_turn(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let _permit = app.probes.try_acquire().map_err(|_| too_many())?;
    Ok(next.run(request).await)
}

fn too_many() -> Refusal {
    Refusal::unavailable(Fault::transient(code::INTERNAL, "too many requests are being answered"))
}

/// Whether the database and the broker answer.
async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let unready = |what: &str| Refusal::unavailable(Fault::transient(code::INTERNAL, format!("{what} doesn't answer")));
    match timeout(READY_WITHIN, database::now(app.database.read())).await {
        Ok(Ok(_)) => (),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database doesn't answer");
            return Err(unready("the database"));
        }
        Err(_) => return Err(unready("the database")),
    }
    // Odd while connected.
    if *app.link.borrow() % 2 == 0 {
        return Err(unready("the broker"));
    }
    Ok(Json(json!({"database": "answers", "broker": "answers"})))
}
