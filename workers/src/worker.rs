//! One worker from its start to its end: it opens its control queue, announces itself, reaches its places,
//! takes steps, and, when asked to stop, finishes or hands back what it has in hand.
//!
//! **Invariant**: when `run` returns, or its future is dropped, no task of it goes on.

use crate::{
    announce,
    attempts::{Attempts, Hand},
    clock::DatabaseClock,
    config::Config,
    consumer, control, long,
    progress::Renewals,
    reach::{self, Opener, View},
    report::{Reports, changed},
    steps::Handlers,
};
use anyhow::Context as _;
use longshore_courier::Courier;
use longshore_schema::{site::Place, step::StepMessage, wire::names};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, watch},
    task::JoinSet,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

/// What was handed back is reported within this time, or not at all.
const LAST_REPORTS: Duration = Duration::from_secs(10);

/// A running worker: what its tasks share.
pub struct Worker {
    pub(crate) config: Config,
    /// New at each start.
    pub(crate) incarnation: uuid::Uuid,
    pub(crate) courier: Arc<dyn Courier>,
    pub(crate) handlers: Handlers,
    pub(crate) reports: Arc<Reports>,
    pub(crate) clock: DatabaseClock,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) renewals: Renewals,
    pub(crate) long_slots: Semaphore,
    pub(crate) short_slots: Semaphore,
    /// As the last welcome named them; `None` before the first.
    pub(crate) places: watch::Sender<Option<Arc<Vec<Place>>>>,
    /// `None` until the places were tried once.
    pub(crate) view: watch::Sender<Option<View>>,
    /// Counts welcomes.
    pub(crate) welcomes: watch::Sender<u64>,
    pub(crate) announce_again: Notify,
    /// The places are looked at soon: one may have come or gone.
    pub(crate) look_again: Notify,
    /// Nothing new is begun.
    pub(crate) stop: CancellationToken,
    /// Everything ends.
    over: CancellationToken,
    /// One for each delivery in hand, and one for its handler.
    pub(crate) tasks: TaskTracker,
    /// Counts deliveries that aren't settled.
    pub(crate) unsettled: TaskTracker,
    expired: AtomicU64,
}

impl Worker {
    /// Runs a worker until `stop`: then it announces that it leaves, gives back what it hasn't started, lets what
    /// runs finish within `drain_s`, and hands the rest back with the fault `step.handed-back`. The courier is this
    /// worker's own, and closed at the end.
    ///
    /// Fails if its control queue can't be had for minutes (two workers with one id), or the courier is closed.
    pub async fn run(
        config: Config,
        courier: Arc<dyn Courier>,
        handlers: Handlers,
        opener: Arc<dyn Opener>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let worker = Arc::new(Worker::new(config, courier, handlers, stop.child_token()));
        let _over = worker.over.clone().drop_guard();
        let result = worker.work(opener).await;
        worker.courier.close().await;
        result
    }

    async fn work(self: &Arc<Worker>, opener: Arc<dyn Opener>) -> anyhow::Result<()> {
        let inbox = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            inbox = control::open(self) => inbox?,
        };
        tracing::info!(worker = self.config.worker, kind = self.config.kind.as_str(), "the worker runs");
        let mut services = JoinSet::new();
        services.spawn(control::keep_listening(self.clone(), inbox));
        services.spawn(reach::keep_reaching(self.clone(), opener));
        let worker = self.clone();
        services.spawn(async move { worker.renewals.keep_renewing(worker.courier.link()).await });
        let announcer = self.until_stopped(announce::keep_announcing(self.clone()));
        let zone = names::zone_queue(&self.config.zone, self.config.kind.as_str());
        let host = names::host_queue(&self.config.host);
        let consumers =
            [zone, host].map(|key| self.until_stopped(consumer::keep_consuming(self.clone(), names::steps_queue(&key))));

        let ended = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            Some(ended) = services.join_next() => match ended {
                Ok(()) => Err(anyhow::anyhow!("the courier was closed while the worker ran")),
                Err(error) => Err(anyhow::Error::new(error).context("run the worker's tasks")),
            }
        };
        self.stop.cancel();
        self.unsettled.close();
        let announced = announcer.await;
        self.drain().await;
        for ended in futures::future::join_all(consumers).await.into_iter().chain([announced]) {
            ended.context("run the worker's tasks")?;
        }
        services.shutdown().await;
        tracing::info!(expired = self.expired.load(Relaxed), "the worker ended");
        ended
    }

    fn new(config: Config, courier: Arc<dyn Courier>, handlers: Handlers, stop: CancellationToken) -> Worker {
        let incarnation = uuid::Uuid::now_v7();
        let reports = Arc::new(Reports::new(courier.clone(), config.worker.clone()));
        Worker {
            renewals: Renewals::new(config.worker.clone(), reports.clone(), incarnation),
            long_slots: Semaphore::new(config.long_slots()),
            short_slots: Semaphore::new(config.short_slots()),
            config,
            incarnation,
            courier,
            handlers,
            reports,
            clock: DatabaseClock::default(),
            attempts: Arc::default(),
            places: watch::Sender::new(None),
            view: watch::Sender::new(None),
            welcomes: watch::Sender::new(0),
            announce_again: Notify::new(),
            look_again: Notify::new(),
            stop,
            over: CancellationToken::new(),
            tasks: TaskTracker::new(),
            unsettled: TaskTracker::new(),
            expired: AtomicU64::new(0),
        }
    }

    /// Waits until there is room for the step in hand. `None`: it isn't begun here, and its message goes where it should: back, or
    /// nowhere, if nobody may begin it any more.
    pub(crate) async fn slot<'w>(
        &'w self,
        slots: &'w Semaphore,
        message: &StepMessage,
        hand: &mut Hand,
        link: &mut watch::Receiver<u64>,
    ) -> Option<SemaphorePermit<'w>> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => (),
            () = changed(link) => (),
            () = hand.stopped() => hand.settle(),
            () = self.clock.passed(message.start_before) => self.expired(hand),
            slot = slots.acquire() => return slot.ok(),
        }
        None
    }

    /// Starts the task of one delivery. It ends with the worker at the latest.
    pub(crate) fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => (),
                () = task => (),
            }
        });
    }

    /// The engine welcomed the worker.
    pub(crate) fn welcome(&self, places: Vec<Place>) {
        self.places.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| **known != places);
            if news {
                *known = Some(Arc::new(places));
            }
            news
        });
        self.welcomes.send_modify(|count| *count += 1);
    }

    /// The places were tried; whoever announces is told if the outcome is another.
    pub(crate) fn set_view(&self, view: View) {
        self.view.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| !known.says_the_same(&view));
            *known = Some(view);
            news
        });
    }

    /// The attempt may be past its `start_before`: it isn't started, and the engine's clock sees to it.
    pub(crate) fn expired(&self, hand: &Hand) {
        let expired = self.expired.fetch_add(1, Relaxed) + 1;
        tracing::info!(expired, "not started: too late");
        hand.settle();
    }

    /// Starts a task that ends by itself once the worker is asked to stop. Should it panic, the worker stops.
    fn until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
        let stop = self.stop.clone().drop_guard();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let _stop = stop;
            task.await;
        }))
    }

    async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(self.config.drain(), self.tasks.wait()).await.is_err() {
            self.attempts.stop_all(&long::handed_back());
            if tokio::time::timeout(LAST_REPORTS, self.tasks.wait()).await.is_err() {
                tracing::warn!(tasks = self.tasks.len(), "ending before everything is reported");
            }
        }
        self.over.cancel();
        self.tasks.wait().await;
    }
}
