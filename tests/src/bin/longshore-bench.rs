//! Runs one measurement; `cargo xtask bench` is its front. Those of the engine run in the environment of `cargo xtask
//! services`.

use anyhow::{Context, Result, bail};
use longshore_tests::bench::{
    data,
    engine::{self, Load, Parts},
};

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [part, task] = arguments.as_slice()
        && part == "data"
    {
        println!("{}", data::run(task).await?);
        return Ok(());
    }
    let [parts, queued, alone, depth, engines, form] = arguments.as_slice() else {
        bail!(
            "wanted: data and a task as JSON; or engine or engine-embedded, operations queued, operations alone, depth of queues, engines, json or text"
        );
    };
    let number = |text: &str| text.parse::<usize>().with_context(|| format!("{text} is not a number"));
    let (queued, alone, engines) = (number(queued)?, number(alone)?, number(engines)?);
    let load = Load { queued, alone, engines, queue_depth: number(depth)?.try_into()? };
    let parts = match parts.as_str() {
        "engine" => Parts::Services,
        "engine-embedded" => Parts::Embedded,
        other => bail!("no measurement {other}"),
    };
    let figures = engine::run(parts, load).await?;
    match form.as_str() {
        "json" => println!("{figures}"),
        _ => figures.as_object().into_iter().flatten().for_each(|(name, value)| println!("{name:32} {value}")),
    }
    Ok(())
}
