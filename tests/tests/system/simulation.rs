//! The simulation: thousands of schedules show nothing wrong, and what is made wrong on purpose is found.

use longshore_tests::simulation::{
    Bug, Options, Place,
    many::{Totals, run_all},
    mutants, run, shrink,
};
use std::sync::atomic::Ordering::Relaxed;
use uuid::Uuid;

/// As many as every test run tries in about a minute; `cargo xtask simulate` tries a million.
const SCHEDULES: u64 = 10_000;
/// Every mutant of the list is found within so many.
const BOUND: u64 = 2_000;

/// What must happen for the rest to show anything: requests and kinds that were accepted, ends of operations, and more.
const HAPPENS: &[&str] = &[
    "backup-snapshot",
    "copy-object",
    "create-volume",
    "verify-object",
    "sweep-store",
    "cancel",
    "destroy",
    "abandon",
    "retry",
    "ready backup-snapshot",
    "ready copy-object",
    "ready create-volume",
    "ready verify-object",
    "ready sweep-store",
    "failed backup-snapshot",
    "failed copy-object",
    "failed create-volume",
    "failed verify-object",
    "destroyed backup-snapshot",
    "destroyed copy-object",
    "destroyed create-volume",
    "waits",
    "undo",
    "probe",
    "outage",
    "attention",
    "deadline",
    "abandon while probed",
    "asked again",
    "id reused",
    "answer lost",
    "late",
    "wipe",
];

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn thousands_of_schedules_keep_every_promise() {
    let totals = Totals::default();
    run_all(0..=SCHEDULES - 1, &Options::default(), threads(), &totals);
    if let Some((seed, failure)) = totals.failed.lock().unwrap().take() {
        panic!("{}\n`cargo xtask simulate --seed {seed}` shows it", failure.wrong.join("\n"));
    }
    assert_eq!(totals.schedules.load(Relaxed), SCHEDULES);
    assert!(totals.operations.load(Relaxed) > SCHEDULES && totals.faults.load(Relaxed) > SCHEDULES);
    let mix = totals.mix.lock().unwrap();
    let seldom: Vec<&str> = HAPPENS.iter().copied().filter(|it| mix.get(*it).copied().unwrap_or(0) < 10).collect();
    assert!(seldom.is_empty(), "these hardly happen: {seldom:?} of {mix:?}");
}

#[test]
fn every_mutant_is_found() {
    let unfound: Vec<Bug> = mutants::ALL
        .iter()
        .copied()
        .filter(|bug| {
            let totals = Totals::default();
            run_all(0..=BOUND - 1, &Options { bug: Some(*bug), ..Options::default() }, threads(), &totals);
            totals.failed.lock().unwrap().is_none()
        })
        .collect();
    assert_eq!(unfound, []);
}

/// Lines in which each id is a number, by the order of their appearance: ids differ between runs, and nothing else does.
pub(crate) fn without_ids(lines: &[String]) -> Vec<String> {
    const LENGTH: usize = 36;
    let mut known: Vec<String> = vec![];
    let mut without = |line: &String| {
        let (mut said, mut rest) = (String::new(), line.as_str());
        while let Some(letter) = rest.chars().next() {
            let id = rest.get(..LENGTH).filter(|it| Uuid::try_parse(it).is_ok());
            match id {
                None => said.push(letter),
                Some(id) => {
                    let number = known.iter().position(|it| it == id).unwrap_or(known.len());
                    if number == known.len() {
                        known.push(id.to_owned());
                    }
                    said += &format!("id {number}");
                }
            }
            rest = &rest[id.map_or(letter.len_utf8(), str::len)..];
        }
        said
    };
    lines.iter().map(&mut without).collect()
}

#[test]
fn an_id_is_the_same_number_wherever_it_appears() {
    let [one, other] = [Uuid::now_v7(), Uuid::now_v7()];
    let lines = [format!("pack {one}/1-0, not {other}…"), format!("\"{other}\" {one}{one}"), one.to_string()[..35].to_owned()];
    let without = without_ids(&lines);
    assert_eq!(without[..2], ["pack id 0/1-0, not id 1…", "\"id 1\" id 0id 0"]);
    assert_eq!(without[2], lines[2], "half an id is none");
}

#[tokio::test]
async fn a_seed_gives_the_same_schedule_again_whatever_ran_before() {
    let (place, other) = (Place::new().await.unwrap(), Place::new().await.unwrap());
    let traced = Options { trace: true, ..Options::default() };
    let mut traces = vec![];
    for seed in 0..50 {
        traces.push((seed, run(&place, seed, &traced).await.unwrap().trace));
    }
    for (seed, trace) in traces.into_iter().rev() {
        let again = run(&other, seed, &traced).await.unwrap().trace;
        assert!(!trace.is_empty());
        assert_eq!(without_ids(&again), without_ids(&trace), "seed {seed}");
    }
}

#[tokio::test]
async fn a_failing_schedule_shrinks_to_what_still_fails_and_no_further() {
    let place = Place::new().await.unwrap();
    let options = Options { bug: Some(Bug::named("undo-only-finished").unwrap()), ..Options::default() };
    for seed in 0..BOUND {
        let Err(failure) = run(&place, seed, &options).await else { continue };
        let commands = failure.ran.commands;
        let (smallest, shrunk) = shrink(&place, seed, &options, failure).await;
        assert!(!smallest.without_commands.is_empty() || !smallest.without_faults.is_empty(), "nothing was left out");

        let again = run(&place, seed, &Options { trace: true, ..smallest.clone() }).await.unwrap_err();
        assert_eq!(without_ids(&again.wrong), without_ids(&shrunk.wrong));
        assert_eq!(without_ids(&again.ran.trace), without_ids(&shrunk.ran.trace));

        for command in (0..commands).filter(|it| !smallest.without_commands.contains(it)) {
            let mut fewer = smallest.clone();
            fewer.without_commands.insert(command);
            assert!(run(&place, seed, &fewer).await.is_ok(), "it fails without command {command} too: {fewer:?}");
        }
        for fault in (1..=again.ran.faults).filter(|it| !smallest.without_faults.contains(it)) {
            let mut fewer = smallest.clone();
            fewer.without_faults.insert(fault);
            assert!(run(&place, seed, &fewer).await.is_ok(), "it fails without fault {fault} too: {fewer:?}");
        }
        return;
    }
    panic!("the mutant was not found");
}
