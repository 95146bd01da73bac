//! Accepts connections until told to stop, and keeps each within limits: so many at once, with headers of so many bytes
//! within so many seconds, and readers that take what they asked for. Bodies need no limit: none is ever read.

use super::{
    patience::Patient,
    seats::{Asking, Seat, Seats},
};
use axum::{Router, body::Body};
use hyper::{
    body::{Frame, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// All headers of a request together.
const HEADER_BYTES: usize = 16 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// How long requests under way may take once it is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What connections may do. The defaults suit production; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Connections at once. Another one takes the place of that which was silent for longest. More than `reads`,
    /// `probes` and `streams` together.
    pub(super) connections: usize,
    /// From the opening of a connection, or the end of the request before, to the end of the headers.
    pub(super) headers_within: Duration,
    /// How long a reader may take nothing of its answer.
    pub(super) taken_within: Duration,
    /// Requests that read the database at once; more are refused for now.
    pub(super) reads: usize,
    /// Requests for `/readyz` at once; more are refused for now.
    pub(super) probes: usize,
    /// Streams of events that are open at once; more are refused for now.
    pub(super) streams: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            headers_within: Duration::from_secs(15),
            taken_within: Duration::from_secs(60),
            reads: 32,
            probes: 8,
            streams: 64,
        }
    }
}

/// Serves until `stop`, then lets requests under way end.
pub(super) async fn run(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let seats = Seats::new(limits.connections);
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            Ok::<_, std::io::Error>((stream, seats.take().await))
        };
        let accepted = tokio::select! {
            it = accepted => it,
            () = stop.cancelled() => break,
        };
        let (stream, seat) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (moved, cut) = (seat.moved.clone(), cut.clone());
        let serving = connection(stream, seat, router.clone(), limits, stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = serving => (),
                () = moved.cancelled() => tracing::debug!("a silent connection gave its place to another one"),
                () = cut.cancelled() => (),
            }
        });
    }
    drop(listener);
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        cut.cancel();
        tasks.wait().await;
    }
}

async fn connection(stream: TcpStream, seat: Arc<Seat>, router: Router, limits: Limits, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.headers_within).max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |request| {
        let (asking, answered) = (seat.asks(), router.call(request));
        async move { answered.await.map(|it| it.map(|body| Answer { body, _asking: asking })) }
    });
    let stream = TokioIo::new(Patient::new(stream, limits.taken_within));
    let mut serving = pin!(builder.serve_connection(stream, answer));
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

/// An answer's body: the request is under way until all of it was handed over.
struct Answer {
    body: Body,
    _asking: Asking,
}

impl hyper::body::Body for Answer {
    type Data = <Body as hyper::body::Body>::Data;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
