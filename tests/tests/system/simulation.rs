//! The simulation: thousands of schedules show nothing wrong, and what is made wrong on purpose is found.

use longshore_tests::simulation::{
    Bug, Options, Place,
    many::{Totals, run_all},
    mutants, shrink,
};
use std::sync::atomic::Ordering::Relaxed;

/// As many as every test run tries in about a minute; `cargo xtask simulate` tries a million.
const SCHEDULES: u64 = 10_000;
/// Every mutant of the list is found within so many.
const BOUND: u64 = 2_000;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn thousands_of_schedules_keep_every_promise() {
    let totals = Totals::default();
    run_all(0..SCHEDULES, &Options::default(), threads(), &totals);
    if let Some((seed, failure)) = totals.failed.lock().unwrap().take() {
        panic!("{}\n`cargo xtask simulate --seed {seed}` shows it", failure.wrong.join("\n"));
    }
    assert_eq!(totals.schedules.load(Relaxed), SCHEDULES);
    assert!(totals.operations.load(Relaxed) > SCHEDULES && totals.faults.load(Relaxed) > SCHEDULES);
}

#[test]
fn every_mutant_is_found() {
    let unfound: Vec<Bug> = mutants::ALL
        .iter()
        .copied()
        .filter(|bug| {
            let totals = Totals::default();
            run_all(0..BOUND, &Options { bug: Some(*bug), ..Options::default() }, threads(), &totals);
            totals.failed.lock().unwrap().is_none()
        })
        .collect();
    assert_eq!(unfound, []);
}

#[tokio::test]
async fn a_seed_gives_the_same_schedule_again_and_a_failing_one_shrinks() {
    let place = Place::new().await.unwrap();
    let bug = Some(mutants::ALL.iter().copied().find(|it| format!("{it:?}").contains("UndoOnlyFinished")).unwrap());
    let traced = Options { bug, trace: true, ..Options::default() };
    for seed in 0.. {
        let Err(failure) = longshore_tests::simulation::run(&place, seed, &traced).await else { continue };
        let again = longshore_tests::simulation::run(&place, seed, &traced).await.unwrap_err();
        assert_eq!(failure.ran.trace.len(), again.ran.trace.len());
        let (smallest, shrunk) = shrink(&place, seed, &traced, failure.clone()).await;
        assert!(shrunk.ran.trace.len() <= failure.ran.trace.len());
        assert!(smallest.without_commands.len() + smallest.without_faults.len() > 0, "nothing was left out");
        return;
    }
}
