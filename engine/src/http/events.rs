//! Events, as they pass the broker: one queue of this engine's own for all its readers, so that everyone sees what
//! any engine did. A reader that is too slow, or that missed what passed while the broker was away, is told.

use super::{
    App,
    parameters::{Asked, Parameters},
    refusal::Refusal,
};
use axum::{
    extract::State,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt, stream};
use longshore_courier::{Courier, Delivery, Queue};
use longshore_schema::{
    fault::{Fault, code},
    wire::{CloudEvent, Progress, names},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

/// Events that a reader may be behind.
const BEHIND: usize = 1024;
/// Unsettled messages of the queue.
const PREFETCH: u16 = 256;
/// Between two tries to consume the queue.
const PAUSE: Duration = Duration::from_secs(2);

/// Changes of state since this process began to look, by kind and new state.
pub(super) type Changes = BTreeMap<(String, String), u64>;

/// Something to tell the readers.
#[derive(Debug, Clone)]
enum Seen {
    /// A change of state.
    State(Arc<CloudEvent>),
    /// Progress of a step.
    Progress(Arc<Progress>),
    /// The broker was away: what passed meanwhile is not known.
    Gap,
}

/// What passes, to whoever listens.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    readers: broadcast::Sender<Seen>,
    changes: Arc<Mutex<Changes>>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { readers: broadcast::Sender::new(BEHIND), changes: Arc::default() }
    }
}

impl Feed {
    /// Changes of state that were seen.
    pub(super) fn changes(&self) -> Changes {
        self.counted().clone()
    }

    /// What passes from now on, as server-sent events.
    pub(super) fn written(&self) -> impl Stream<Item = Result<Event, axum::Error>> + Send + use<> {
        written(self.readers.subscribe())
    }

    /// Follows all events until `stop`, whatever the broker does.
    pub(super) async fn follow(self, courier: Arc<dyn Courier>, stop: CancellationToken) {
        let name = format!("{}.http.{}", names::EVENTS, uuid::Uuid::now_v7());
        let queue = Queue::Own { name, exchange: names::EVENTS.into(), routing_keys: vec!["#".into()] };
        loop {
            tokio::select! {
                Err(error) = self.consume(&*courier, &queue) => {
                    tracing::warn!(error = format!("{error:#}"), "could not follow the events");
                }
                () = stop.cancelled() => return,
            }
            self.tell(Seen::Gap);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => (),
                () = stop.cancelled() => return,
            }
        }
    }

    async fn consume(&self, courier: &dyn Courier, queue: &Queue) -> anyhow::Result<std::convert::Infallible> {
        let mut link = courier.link();
        courier.declare(std::slice::from_ref(queue)).await?;
        let (Queue::Own { name, .. } | Queue::Durable { name, .. }) = queue;
        let mut inbox = courier.consume(name, PREFETCH).await?;
        link.mark_unchanged();
        loop {
            tokio::select! {
                delivery = inbox.next() => self.take(delivery.ok_or_else(|| anyhow::anyhow!("the courier was closed"))?),
                Ok(()) = link.changed() => if *link.borrow_and_update() % 2 == 1 { self.tell(Seen::Gap) },
            }
        }
    }

    fn take(&self, delivery: Delivery) {
        let (key, body) = (&delivery.parcel.routing_key, &delivery.parcel.body);
        let seen = match key.ends_with(".progress") {
            true => serde_json::from_slice(body).map(|it| Seen::Progress(Arc::new(it))),
            false => serde_json::from_slice(body).map(|it| Seen::State(Arc::new(it))),
        };
        match seen {
            Ok(seen) => {
                if let Seen::State(event) = &seen {
                    *self.counted().entry((event.data.kind.clone(), event.data.to.clone())).or_default() += 1;
                }
                self.tell(seen);
            }
            Err(error) => tracing::debug!(routing_key = key, %error, "an event can't be read"),
        }
        delivery.receipt.ack();
    }

    fn tell(&self, seen: Seen) {
        // Nobody may listen.
        let _ = self.readers.send(seen);
    }

    fn counted(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Events = Sse<axum::response::sse::KeepAliveStream<stream::BoxStream<'static, Result<Event, axum::Error>>>>;

/// Server-sent events: `state` (a CloudEvent; its id is `{operation}/{seq}`), `progress`, and `missed` when this
/// reader didn't get everything and should list the operations again.
pub(super) async fn stream(State(app): State<Arc<App>>, asked: Asked) -> Result<Events, Refusal> {
    Parameters::read(asked, &[])?;
    let permit = app
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refusal::unavailable(Fault::transient(code::INTERNAL, "too many streams of events are open")))?;
    let stop = app.stop.clone();
    // A reader that has the answer's head has missed nothing since.
    let events = app.feed.written().take_until(stop.cancelled_owned());
    let events = events.inspect(move |_| {
        let _ = &permit;
    });
    Ok(Sse::new(events.boxed()).keep_alive(KeepAlive::default()))
}

fn written(readers: broadcast::Receiver<Seen>) -> impl Stream<Item = Result<Event, axum::Error>> + Send + use<> {
    stream::unfold(readers, |mut readers| async move {
        let event = match readers.recv().await {
            Ok(Seen::State(it)) => {
                let id = format!("{}/{}", it.data.operation, it.data.seq);
                Event::default().event("state").id(id).json_data(&*it)
            }
            Ok(Seen::Progress(it)) => Event::default().event("progress").json_data(&*it),
            Ok(Seen::Gap) => Event::default().event("missed").json_data(json!({"events": null})),
            Err(RecvError::Lagged(count)) => Event::default().event("missed").json_data(json!({"events": count})),
            Err(RecvError::Closed) => return None,
        };
        Some((event, readers))
    })
}
