//! Many schedules: on every core a thread with a database of its own.

use super::{
    schedule::{Failure, Options, Ran, run},
    setup::Place,
};
use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// What many schedules did.
#[derive(Debug, Default)]
pub struct Totals {
    /// Schedules that ran.
    pub schedules: AtomicU64,
    /// Transactions.
    pub commits: AtomicU64,
    /// Operations that were accepted.
    pub operations: AtomicU64,
    /// Faults.
    pub faults: AtomicU64,
    /// How often what happened, by name.
    pub mix: Mutex<BTreeMap<String, u64>>,
    /// The lowest seed that failed, and how.
    pub failed: Mutex<Option<(u64, Failure)>>,
}

/// Runs the seeds until one fails.
pub fn run_all(seeds: RangeInclusive<u64>, options: &Options, threads: usize, totals: &Totals) {
    let (left, stop) = (Mutex::new(seeds), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(lane(&left, &stop, options, totals));
            });
        }
    });
}

async fn lane(left: &Mutex<RangeInclusive<u64>>, stop: &AtomicBool, options: &Options, totals: &Totals) {
    let place = Place::new().await.expect("a database in memory");
    while !stop.load(Relaxed) {
        let Some(seed) = left.lock().expect("no thread panicked").next() else { return };
        let ran = match run(&place, seed, options).await {
            Ok(ran) => ran,
            Err(failure) => {
                stop.store(true, Relaxed);
                let ran = failure.ran.clone();
                let mut failed = totals.failed.lock().expect("no thread panicked");
                if failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                    *failed = Some((seed, failure));
                }
                ran
            }
        };
        count(totals, &ran);
    }
}

fn count(totals: &Totals, ran: &Ran) {
    totals.schedules.fetch_add(1, Relaxed);
    totals.commits.fetch_add(ran.commits.into(), Relaxed);
    totals.operations.fetch_add(ran.operations as u64, Relaxed);
    totals.faults.fetch_add(ran.faults.into(), Relaxed);
    let mut mix = totals.mix.lock().expect("no thread panicked");
    for (what, count) in &ran.mix {
        *mix.entry(what.clone()).or_default() += count;
    }
}
