//! Says who this worker is, what it reaches and whether it is leaving: at start, every ten seconds, and when
//! something changed. The engine's answer carries the database's clock and the places.

use crate::{report::changed, worker::Worker};
use longshore_schema::wire::{Announce, Report};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often it announces itself when nothing changes.
const INTERVAL: Duration = Duration::from_secs(10);

/// The last announcement, that the worker leaves, doesn't hold it up longer.
const FAREWELL: Duration = Duration::from_secs(3);

/// Announces the worker until it is asked to stop, then that it leaves.
pub(crate) async fn keep_announcing(worker: Arc<Worker>) {
    let announcing = async {
        let mut view = worker.view.subscribe();
        let mut link = worker.courier.link();
        loop {
            view.borrow_and_update();
            link.borrow_and_update();
            announce(&worker, false, INTERVAL).await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => (),
                () = changed(&mut view) => (),
                () = changed(&mut link) => (),
                () = worker.announce_again.notified() => (),
            }
        }
    };
    tokio::select! {
        () = worker.stop.cancelled() => (),
        () = announcing => (),
    }
    announce(&worker, true, FAREWELL).await;
}

async fn announce(worker: &Worker, leaving: bool, patience: Duration) {
    let report = Report::Announce(announcement(worker, leaving));
    worker.clock.asked(Instant::now());
    match tokio::time::timeout(patience, worker.reports.send(&report)).await {
        Ok(Ok(())) => (),
        Ok(Err(unsent)) => tracing::debug!(error = %unsent, "the announcement was not confirmed"),
        Err(_) => tracing::debug!("the announcement was not confirmed in time"),
    }
}

fn announcement(worker: &Worker, leaving: bool) -> Announce {
    let view = worker.view.borrow().clone().unwrap_or_default();
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let config = &worker.config;
    Announce {
        worker: config.worker.clone(),
        incarnation: worker.incarnation,
        kind: config.kind,
        host: config.host.clone(),
        zone: config.zone.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        tools: config.tools.clone(),
        pools: sorted(view.reach.pools.keys().cloned().collect()),
        stores: sorted(view.reach.stores.keys().cloned().collect()),
        concurrency: config.concurrency.max(1),
        problems: view.problems,
        leaving,
    }
}
