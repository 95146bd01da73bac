//! `cargo xtask bench engine`: operations of four steps that do nothing, beside the limits of broker and database.

use super::{figures, plot};
use anyhow::Result;
use clap::{Args, value_parser};

/// How much of the engine's work is measured.
#[derive(Debug, Args)]
pub struct Options {
    /// Operations submitted at once.
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    operations: u32,
    /// Operations submitted one after the other.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..=1_000_000))]
    alone: u32,
    /// Unstarted steps in a queue of the broker; 64 is the engine's own.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    queue_depth: u16,
    /// Engines side by side, in one process.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=64))]
    engines: u32,
    /// On SQLite and channels in one process, instead of PostgreSQL with fsync and RabbitMQ.
    #[arg(long)]
    embedded: bool,
    /// JSON Lines on standard output; all else on standard error.
    #[arg(long)]
    json: bool,
    /// Measure both ways, one after the other, and write docs/performance/engine.svg.
    #[arg(long, conflicts_with = "embedded")]
    plot: bool,
    /// Only operations alone: how the time of one divides between broker, database, reading for the plan, and the rest.
    #[arg(long, conflicts_with = "plot")]
    trace_alone: bool,
}

/// Measures, and draws.
pub fn run(options: &Options) -> Result<()> {
    let program = figures::build()?;
    if options.trace_alone {
        let part = if options.embedded { "trace-embedded" } else { "trace" };
        let measured = figures::measured(&program, &[part.to_owned(), options.alone.to_string()], !options.embedded)?;
        return figures::print(&measured, options.json);
    }
    let numbers = [options.operations, options.alone, options.queue_depth.into(), options.engines].map(|it| it.to_string());
    let mut all = vec![];
    let ways = [("engine", true, !options.embedded), ("engine-embedded", false, options.embedded || options.plot)];
    for (part, needs_services, _) in ways.into_iter().filter(|it| it.2) {
        let arguments: Vec<String> = std::iter::once(part.to_owned()).chain(numbers.clone()).collect();
        let measured = figures::measured(&program, &arguments, needs_services)?;
        figures::print(&measured, options.json)?;
        all.extend(measured);
    }
    if options.plot { plot::engine::drawing(&all).write("engine") } else { Ok(()) }
}
