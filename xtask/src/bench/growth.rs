//! `cargo xtask bench growth`: what is asked every day, on an empty database, on a small one and on one with millions of
//! operations.

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

/// Of the table: a field, and what stands above it. What isn't asked of an empty database has no time there.
const COLUMNS: [(&str, &str); 8] = [
    ("empty_p50_ms", "empty p50"),
    ("empty_p99_ms", "p99 ms"),
    ("small_p50_ms", "small p50"),
    ("small_p99_ms", "p99 ms"),
    ("large_p50_ms", "large p50"),
    ("large_p99_ms", "p99 ms"),
    ("large_to_empty", "to empty"),
    ("large_to_small", "to small"),
];

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
    let columns: Vec<String> = COLUMNS.iter().map(|(_, title)| format!("{title:>9}")).collect();
    output::line(format_args!("{:42} {}", "", columns.join(" ")))?;
    let (times, sums): (Vec<_>, Vec<_>) = figures.iter().cloned().partition(|it| it["large_to_small"].is_number());
    for line in &times {
        let cells: Vec<String> = COLUMNS.iter().map(|(name, _)| cell(&line[name])).collect();
        output::line(format_args!("{:42} {}", line["what"].as_str().unwrap_or_default(), cells.join(" ")))?;
    }
    figures::print(&sums, false)
}

fn cell(value: &Value) -> String {
    value.as_f64().map_or_else(|| format!("{:>9}", "-"), |value| format!("{value:9.2}"))
}
