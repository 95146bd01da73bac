//! Runs one measurement and prints a JSON object a line; `cargo xtask bench` is its front. Those of the engine and of
//! growth run in the environment of `cargo xtask services`.

use anyhow::{Context, Result, bail};
use longshore_tests::bench::{
    data,
    engine::{self, Load, Parts},
    growth::{self, Rows},
    marks::Marks,
    trace,
};
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};
use xtask::output;

const WANTED: &str = "wanted: data and a task as JSON; or engine or engine-embedded, operations queued, operations alone, depth of \
    queues, engines; or trace or trace-embedded, operations alone; or growth, operations, whole or slim, explain or measure";

#[tokio::main]
async fn main() -> ExitCode {
    run().await.map_or_else(|error| output::failed(&error), |()| ExitCode::SUCCESS)
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (filter, marks) = (EnvFilter::from_default_env(), Marks::default());
    match arguments.first() {
        Some(&("trace" | "trace-embedded")) => marks.clone().subscriber(filter).init(),
        _ => tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init(),
    }
    match arguments[..] {
        ["data", task] => output::line(data::run(task).await?),
        ["engine", queued, alone, depth, engines] => {
            output::line(engine::run(Parts::Services, load([queued, alone, depth, engines])?).await?)
        }
        ["engine-embedded", queued, alone, depth, engines] => {
            output::line(engine::run(Parts::Embedded, load([queued, alone, depth, engines])?).await?)
        }
        ["trace", alone] => output::line(trace::run(Parts::Services, number(alone)?, &marks).await?),
        ["trace-embedded", alone] => output::line(trace::run(Parts::Embedded, number(alone)?, &marks).await?),
        ["growth", operations, rows, how] => {
            let rows = if rows == "slim" { Rows::Slim } else { Rows::Whole };
            measure_growth(growth::Options { operations: operations.parse()?, rows, explain: how == "explain" }).await
        }
        _ => bail!(WANTED),
    }
}

fn load(numbers: [&str; 4]) -> Result<Load> {
    let [queued, alone, depth, engines] = numbers;
    let (queued, alone, engines) = (number(queued)?, number(alone)?, number(engines)?);
    Ok(Load { queued, alone, engines, queue_depth: number(depth)?.try_into()? })
}

fn number(text: &str) -> Result<usize> {
    text.parse().with_context(|| format!("{text} is not a number"))
}

async fn measure_growth(options: growth::Options) -> Result<()> {
    let report = growth::run(options).await?;
    report.compared.iter().try_for_each(|it| output::line(it.json(options.operations)))?;
    output::line(&report.sums)?;
    for (statement, plan) in &report.plans {
        eprintln!("\n{statement}\n{plan}");
    }
    Ok(())
}
