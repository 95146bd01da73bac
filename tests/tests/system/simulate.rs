//! `cargo xtask simulate` as a program: what it refuses, what it prints for programs, and that a failure is replayed by the
//! command that it prints.

use crate::simulation::without_ids;
use serde_json::{Value, json};
use std::{
    io::pipe,
    process::{Command, Output, Stdio},
};

fn ran(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What it printed, line by line: nothing but JSON.
#[track_caller]
fn objects(code: i32, arguments: &[&str]) -> Vec<Value> {
    let output = ran(arguments);
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{said}{errors}");
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

fn lines(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn numbers_with_which_nothing_runs_or_nothing_ends_are_refused() {
    for (line, says) in [
        ("--schedules 0", "0 is not in 1.."),
        ("--threads 0", "0 is not in 1..=1024"),
        ("--operations 0", "0 is not in 1..=64"),
        ("--seed 18446744073709551610 --schedules 100", "there are 6 schedules"),
        ("--seed 18446744073709551615 --schedules 2", "there are 1 schedules"),
        ("--mutant UndoOnlyFinished --seed 1", "undo-only-finished"),
        ("--mutant undo-only-finished --mutants", "cannot be used with"),
    ] {
        let output = ran(&line.split(' ').collect::<Vec<_>>());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {error}");
        assert!(output.stdout.is_empty() && error.contains(says), "{line}: {error}");
    }
}

#[test]
fn the_last_seeds_run_and_then_it_ends() {
    let found = objects(0, &["--seed", "18446744073709551613", "--schedules", "3", "--json"]);
    assert_eq!((found.len(), &found[0]["schedules"], &found[0]["failed_seed"]), (1, &json!(3), &json!(null)));
}

#[test]
fn one_schedule_is_one_object_with_its_trace() {
    let found = objects(0, &["--seed", "5", "--json"]);
    assert_eq!(
        (found.len(), &found[0]["seed"], &found[0]["failed"], &found[0]["wrong"]),
        (1, &json!(5), &json!(false), &json!([]))
    );
    assert!(!lines(&found[0]["trace"]).is_empty());
}

#[test]
fn a_failure_is_replayed_by_what_is_printed() {
    let found = objects(1, &["--mutant", "undo-only-finished", "--seed", "0", "--schedules", "2000", "--json"]);
    let [totals, failed] = &found[..] else { panic!("{found:?}") };
    assert_eq!(totals["failed_seed"], failed["seed"]);
    let replay = failed["replay"].as_str().unwrap();
    let words: Vec<&str> = replay.strip_prefix("cargo xtask simulate ").unwrap().split(' ').chain(["--json"]).collect();
    assert!(words.contains(&"undo-only-finished"), "{replay}");
    let again = objects(1, &words);
    assert_eq!(again.len(), 1);
    for what in ["wrong", "trace"] {
        assert_eq!(without_ids(&lines(&again[0][what])), without_ids(&lines(&failed[what])), "{what} of {replay}");
    }
    assert_eq!(again[0]["replay"], failed["replay"]);
    assert!(!lines(&failed["wrong"]).is_empty() && !lines(&failed["trace"]).is_empty());
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    for arguments in [["--seed", "1"].as_slice(), &["--seed", "1", "--json"], &["--mutants", "--schedules", "1"]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_simulate"));
        let output = command.args(arguments).stdin(Stdio::null()).stdout(writer).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*error), (Some(0), ""), "{arguments:?}");
    }
}
