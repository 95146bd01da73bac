//! Accepts connections: so many at once, with headers of so many bytes within so many seconds, until told to
//! stop. Bodies need no limit: none is ever read.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// All headers of a request together.
const HEADER_BYTES: usize = 16 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// From the opening of a connection, or the end of the request before, to the end of the headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// How long requests under way may take once it is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets requests under way end.
pub(super) async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            it = accepted => it,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let serving = connection(stream, router.clone(), stop.clone());
        let cut = cut.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = serving => (),
                () = cut.cancelled() => (),
            }
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        cut.cancel();
        tasks.wait().await;
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
