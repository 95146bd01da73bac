//! Runs the simulation: `cargo xtask simulate` builds and calls it. Prints a line every few seconds; a failing
//! schedule is shrunk, and its trace printed, with the command that replays it.

use anyhow::Result;
use clap::{CommandFactory, Parser, builder::RangedU64ValueParser, error::ErrorKind, value_parser};
use longshore_tests::simulation::{
    Bug, Failure, Options, Place, Ran,
    many::{Totals, run_all},
    mutants, run, shrink,
};
use serde_json::{Value, json};
use std::{
    ops::RangeInclusive,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::Thread,
    time::{Duration, Instant},
};
use xtask::output;

/// Runs the engine's journal under a seeded scheduler with virtual time.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
struct Arguments {
    /// How many schedules [default: a million; with `--mutants` of each, 100,000 at most].
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    schedules: Option<u64>,
    /// The first seed [default: 0]. Without `--schedules`: that schedule alone, with its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// Commands in a schedule, 64 at most: more would look endless [default: two to twelve, as the seed says].
    #[arg(long, value_parser = value_parser!(u64).range(1..=64))]
    operations: Option<u64>,
    /// Numbers of faults to leave out, as a failure prints them.
    #[arg(long, value_delimiter = ',')]
    without_faults: Vec<u32>,
    /// Numbers of commands to leave out, as a failure prints them.
    #[arg(long, value_delimiter = ',')]
    without_commands: Vec<usize>,
    /// Put this fault in on purpose, as `--mutants` prints it.
    #[arg(long, value_name = "NAME", value_parser = Bug::named)]
    mutant: Option<Bug>,
    /// For each fault that can be put in on purpose, how soon it is found.
    #[arg(long, conflicts_with = "mutant")]
    mutants: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
    /// JSON Lines on standard output: totals, a schedule with its trace, or a line for each mutant; all else on standard error.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The seeds of many schedules; an error if there aren't so many.
    fn seeds(&self) -> Result<RangeInclusive<u64>, String> {
        let first = self.seed.unwrap_or(0);
        let beyond = u64::MAX - first;
        let usual = if self.mutants { 100_000 } else { 1_000_000 };
        let others = self.schedules.map_or(beyond.min(usual - 1), |it| it - 1);
        match first.checked_add(others) {
            Some(last) => Ok(first..=last),
            None => Err(format!("the last seed is {}: from seed {first} on there are {} schedules", u64::MAX, beyond + 1)),
        }
    }

    fn options(&self) -> Options {
        Options {
            operations: self.operations,
            without_faults: self.without_faults.iter().copied().collect(),
            without_commands: self.without_commands.iter().copied().collect(),
            bug: self.mutant,
            ..Options::default()
        }
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seeds() {
        Ok(seeds) => seeds,
        Err(why) => Arguments::command().error(ErrorKind::ValueValidation, why).exit(),
    };
    let done = match (arguments.seed, arguments.schedules) {
        _ if arguments.mutants => all_mutants(&arguments, &seeds),
        (Some(seed), None) => one(&arguments, seed),
        _ => many(&arguments, seeds),
    };
    done.unwrap_or_else(|error| output::failed(&error))
}

fn one(arguments: &Arguments, seed: u64) -> Result<ExitCode> {
    let options = Options { trace: true, ..arguments.options() };
    let (ran, wrong) = block_on(async {
        let place = Place::new().await?;
        anyhow::Ok(match run(&place, seed, &options).await {
            Ok(ran) => (ran, vec![]),
            Err(failure) => (failure.ran, failure.wrong),
        })
    })?;
    print(arguments, seed, &options, &ran, &wrong)?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends the progress, even if a schedule panics.
struct Over<'a>(&'a AtomicBool, Thread);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.unpark();
    }
}

fn many(arguments: &Arguments, seeds: RangeInclusive<u64>) -> Result<ExitCode> {
    let options = arguments.options();
    let (totals, start, over) = (Totals::default(), Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let progress = scope.spawn(|| {
            while !over.load(Relaxed) {
                std::thread::park_timeout(Duration::from_secs(5));
                eprintln!("{}", told(&totals, start));
            }
        });
        let _over = Over(&over, progress.thread().clone());
        run_all(seeds, &options, arguments.threads(), &totals);
    });
    let failed = totals.failed.lock().expect("no thread panicked").take();
    if arguments.json {
        let (schedules, commits) = (totals.schedules.load(Relaxed), totals.commits.load(Relaxed));
        let (operations, faults) = (totals.operations.load(Relaxed), totals.faults.load(Relaxed));
        output::line(json!({
            "schedules": schedules, "operations": operations, "commits": commits, "faults": faults,
            "seconds": start.elapsed().as_secs_f64(), "failed_seed": failed.as_ref().map(|(seed, _)| *seed),
        }))?;
    }
    let Some((seed, failure)) = failed else { return Ok(ExitCode::SUCCESS) };
    let fails = format!("seed {seed} fails: {}", failure.wrong.join("; "));
    if arguments.json {
        eprintln!("{fails}")
    } else {
        output::line(fails)?
    }
    let (smallest, Failure { wrong, ran }) = block_on(async {
        let place = Place::new().await?;
        anyhow::Ok(shrink(&place, seed, &options, failure).await)
    })?;
    print(arguments, seed, &smallest, &ran, &wrong)?;
    if !arguments.json {
        output::line(replay(seed, &smallest))?;
    }
    Ok(ExitCode::FAILURE)
}

fn all_mutants(arguments: &Arguments, seeds: &RangeInclusive<u64>) -> Result<ExitCode> {
    let mut found_all = true;
    for bug in mutants::ALL {
        let (totals, start) = (Totals::default(), Instant::now());
        let options = Options { bug: Some(*bug), ..arguments.options() };
        run_all(seeds.clone(), &options, arguments.threads(), &totals);
        let (name, schedules, seconds) = (bug.name(), totals.schedules.load(Relaxed), start.elapsed().as_secs_f64());
        let found = totals.failed.lock().expect("no thread panicked").take();
        found_all &= found.is_some();
        let (seed, wrong) = found.map(|(seed, failure)| (seed, failure.wrong)).unzip();
        let again = seed.map(|seed| replay(seed, &options));
        if arguments.json {
            output::line(json!({
                "mutant": name, "seed": seed, "schedules": schedules, "seconds": seconds,
                "wrong": wrong.unwrap_or_default(), "replay": again,
            }))?;
            continue;
        }
        let how = wrong.map_or("NOT FOUND".into(), |wrong| wrong.join("; "));
        output::line(format_args!("{name} after {schedules} schedules, {seconds:.1} s: {how}"))?;
        again.map_or(Ok(()), |again| output::line(format_args!("    {again}")))?;
    }
    Ok(if found_all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

/// One schedule: its trace and what is wrong, or all of it as one object.
fn print(arguments: &Arguments, seed: u64, options: &Options, ran: &Ran, wrong: &[String]) -> Result<()> {
    if arguments.json {
        return output::line(object(seed, options, ran, wrong));
    }
    ran.trace.iter().try_for_each(output::line)?;
    wrong.iter().try_for_each(|line| output::line(format_args!("WRONG: {line}")))
}

fn object(seed: u64, options: &Options, ran: &Ran, wrong: &[String]) -> Value {
    json!({
        "seed": seed, "mutant": options.bug.map(Bug::name), "failed": !wrong.is_empty(), "wrong": wrong,
        "operations": ran.operations, "commits": ran.commits, "faults": ran.faults, "trace": ran.trace,
        "replay": replay(seed, options),
    })
}

/// The command that runs this schedule again.
fn replay(seed: u64, options: &Options) -> String {
    let mut words = vec![format!("cargo xtask simulate --seed {seed}")];
    words.extend(options.bug.map(|bug| format!("--mutant {}", bug.name())));
    words.extend(options.operations.map(|count| format!("--operations {count}")));
    for (name, left_out) in [
        ("commands", options.without_commands.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("faults", options.without_faults.iter().map(ToString::to_string).collect()),
    ] {
        if !left_out.is_empty() {
            words.push(format!("--without-{name} {}", left_out.join(",")));
        }
    }
    words.join(" ")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
