//! `cargo xtask bench growth`: what is asked every day, on a small database and on one with millions of operations.

use super::{figures, plot};
use crate::output;
use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::Value;

/// How much there is to be.
#[derive(Debug, Args)]
pub struct Options {
    /// Operations that are over, in the large database: more than the small one's 2,000.
    #[arg(long, default_value_t = 10_000_000, value_parser = value_parser!(u64).range(2_001..=1_000_000_000))]
    operations: u64,
    /// Smaller rows than real ones (four events, two steps, no plan): about half the disk.
    #[arg(long)]
    slim: bool,
    /// The plan of every statement on the large database, measured, on standard error.
    #[arg(long)]
    explain: bool,
    /// JSON Lines on standard output; all else on standard error.
    #[arg(long)]
    json: bool,
    /// Write docs/performance/growth.svg.
    #[arg(long)]
    plot: bool,
}

/// Measures, and draws.
pub fn run(options: &Options) -> Result<()> {
    let program = figures::build()?;
    let rows = if options.slim { "slim" } else { "whole" };
    let how = if options.explain { "explain" } else { "measure" };
    let arguments = ["growth", &options.operations.to_string(), rows, how].map(str::to_owned);
    let measured = figures::measured(&program, &arguments, true)?;
    if options.json {
        figures::print(&measured, true)?
    } else {
        table(&measured)?
    }
    if options.plot { plot::growth::drawing(&measured).write("growth") } else { Ok(()) }
}

/// A row for each question, and the rest below.
fn table(figures: &[Value]) -> Result<()> {
    let [small, large, p99, ratio] = ["small p50", "large p50", "p99 ms", "ratio"];
    output::line(format_args!("{:42} {small:>9} {p99:>9} {large:>9} {p99:>9} {ratio:>6}", ""))?;
    let (times, sums): (Vec<_>, Vec<_>) = figures.iter().cloned().partition(|it| it["ratio"].is_number());
    for line in &times {
        let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
        output::line(format_args!(
            "{:42} {:9.2} {:9.2} {:9.2} {:9.2} {:6.2}",
            line["what"].as_str().unwrap_or_default(),
            number("empty_p50_ms"),
            number("empty_p99_ms"),
            number("full_p50_ms"),
            number("full_p99_ms"),
            number("ratio"),
        ))?;
    }
    figures::print(&sums, false)
}
