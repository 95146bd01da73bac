//! Runs the simulation: `cargo xtask simulate` builds and calls it. Prints a line every few seconds; a failing
//! schedule is shrunk, and its trace printed.

use clap::Parser;
use longshore_tests::simulation::{
    Options, Place,
    many::{Totals, run_all},
    mutants, shrink,
};
use serde_json::json;
use std::{
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::Thread,
    time::{Duration, Instant},
};

/// Runs the engine's journal under a seeded scheduler with virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules [default: a million; with `--mutants` of each, 100,000 at most].
    #[arg(long)]
    schedules: Option<u64>,
    /// The first seed [default: 0]. Without `--schedules`: that schedule alone, with its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// Commands in a schedule [default: two to eight, as the seed says].
    #[arg(long)]
    operations: Option<u64>,
    /// Numbers of faults to leave out, as a failure prints them.
    #[arg(long, value_delimiter = ',')]
    without_faults: Vec<u32>,
    /// Numbers of commands to leave out, as a failure prints them.
    #[arg(long, value_delimiter = ',')]
    without_commands: Vec<usize>,
    /// For each fault that can be put in on purpose, how soon it is found.
    #[arg(long)]
    mutants: bool,
    /// Threads [default: one for each core].
    #[arg(long)]
    threads: Option<usize>,
    /// Print the totals as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        operations: arguments.operations,
        without_faults: arguments.without_faults.iter().copied().collect(),
        without_commands: arguments.without_commands.iter().copied().collect(),
        ..Options::default()
    };
    match (arguments.seed, arguments.schedules) {
        _ if arguments.mutants => all_mutants(&arguments, &options),
        (Some(seed), None) => one(seed, &options),
        (first, schedules) => many(&arguments, seeds(first, schedules.unwrap_or(1_000_000)), &options),
    }
}

fn seeds(first: Option<u64>, schedules: u64) -> Range<u64> {
    let first = first.unwrap_or(0);
    first..first.saturating_add(schedules)
}

fn one(seed: u64, options: &Options) -> ExitCode {
    let traced = Options { trace: true, ..options.clone() };
    let (ran, wrong) = block_on(async {
        let place = Place::new().await.expect("a database in memory");
        match longshore_tests::simulation::run(&place, seed, &traced).await {
            Ok(ran) => (ran, vec![]),
            Err(failure) => (failure.ran, failure.wrong),
        }
    });
    print(&ran.trace, &wrong);
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends the progress, even if a schedule panics.
struct Over<'a>(&'a AtomicBool, Thread);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.unpark();
    }
}

fn many(arguments: &Arguments, seeds: Range<u64>, options: &Options) -> ExitCode {
    let threads = threads(arguments);
    let (totals, start, over) = (Totals::default(), Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let progress = scope.spawn(|| {
            while !over.load(Relaxed) {
                std::thread::park_timeout(Duration::from_secs(5));
                eprintln!("{}", told(&totals, start));
            }
        });
        let _over = Over(&over, progress.thread().clone());
        run_all(seeds, options, threads, &totals);
    });
    let failed = totals.failed.lock().expect("no thread panicked").take();
    if arguments.json {
        let seconds = start.elapsed().as_secs_f64();
        let (schedules, commits) = (totals.schedules.load(Relaxed), totals.commits.load(Relaxed));
        let (operations, faults) = (totals.operations.load(Relaxed), totals.faults.load(Relaxed));
        let seed = failed.as_ref().map(|(seed, _)| *seed);
        println!(
            "{}",
            json!({
                "schedules": schedules, "operations": operations, "commits": commits, "faults": faults,
                "seconds": seconds, "failed_seed": seed,
            })
        );
    }
    let Some((seed, failure)) = failed else { return ExitCode::SUCCESS };
    println!("seed {seed} fails: {}", failure.wrong.join("; "));
    let (smallest, failure) = block_on(async {
        let place = Place::new().await.expect("a database in memory");
        shrink(&place, seed, options, failure).await
    });
    print(&failure.ran.trace, &failure.wrong);
    let mut replay = format!("cargo xtask simulate --seed {seed}");
    replay += &smallest.operations.map_or(String::new(), |it| format!(" --operations {it}"));
    for (name, left_out) in [
        ("commands", smallest.without_commands.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("faults", smallest.without_faults.iter().map(ToString::to_string).collect()),
    ] {
        if !left_out.is_empty() {
            replay += &format!(" --without-{name} {}", left_out.join(","));
        }
    }
    println!("{replay}");
    ExitCode::FAILURE
}

fn all_mutants(arguments: &Arguments, options: &Options) -> ExitCode {
    let mut found_all = true;
    for bug in mutants::ALL.iter().chain(mutants::RARE) {
        let (totals, start) = (Totals::default(), Instant::now());
        let seeds = seeds(arguments.seed, arguments.schedules.unwrap_or(100_000));
        run_all(seeds, &Options { bug: Some(*bug), ..options.clone() }, threads(arguments), &totals);
        let found = totals.failed.lock().expect("no thread panicked").take();
        found_all &= found.is_some();
        let how = found.map_or("NOT FOUND".into(), |(seed, failure)| format!("seed {seed}: {}", failure.wrong.join("; ")));
        println!("{bug:?} after {} schedules, {:.1} s: {how}", totals.schedules.load(Relaxed), start.elapsed().as_secs_f64());
    }
    if found_all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn threads(arguments: &Arguments) -> usize {
    arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn told(totals: &Totals, start: Instant) -> String {
    let (schedules, seconds) = (totals.schedules.load(Relaxed), start.elapsed().as_secs_f64());
    let (operations, commits) = (totals.operations.load(Relaxed), totals.commits.load(Relaxed));
    format!(
        "{schedules} schedules, {operations} operations, {commits} commits, {} faults; {:.0} schedules/s",
        totals.faults.load(Relaxed),
        schedules as f64 / seconds
    )
}

fn print(trace: &[String], wrong: &[String]) {
    trace.iter().for_each(|line| println!("{line}"));
    wrong.iter().for_each(|line| println!("WRONG: {line}"));
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
