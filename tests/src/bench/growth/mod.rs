//! Growth: what is asked every day, on a small database and on one with millions of operations that are over. One engine
//! runs all the while, so that its connections, its plans and its memory are those that it began with.

mod copies;
mod explain;
mod generate;
mod measure;
mod questions;
mod templates;
mod work;

use super::{
    engine::{Bench, Load},
    usage,
};
use crate::services::Services;
use anyhow::{Context, Result};
pub use explain::{Reading, plans, readings, sqlite_plans};
pub use generate::{Generator, Rows};
pub use measure::Times;
use serde_json::{Value, json};
use std::time::Instant;
pub use work::{Touched, touched_by};

/// Operations in the small database: enough for a whole page of every filter.
const FEW: u64 = 2000;
/// Operations that questions are about.
const ABOUT: u64 = 200;
const MIB: f64 = (1u64 << 20) as f64;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Operations in the large database.
    pub operations: u64,
    /// How large their rows are.
    pub rows: Rows,
    /// Whether the plans on the large one are printed too.
    pub explain: bool,
}

/// One thing on both databases.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// On the small one.
    pub small: Times,
    /// On the large one.
    pub large: Times,
}

impl Compared {
    /// Median by median.
    pub fn ratio(&self) -> f64 {
        self.large.p50_ms / self.small.p50_ms
    }

    /// As one object.
    pub fn json(&self, operations: u64) -> Value {
        json!({
            "bench": "growth", "operations": operations, "what": self.small.what,
            "empty_p50_ms": rounded(self.small.p50_ms), "empty_p99_ms": rounded(self.small.p99_ms),
            "full_p50_ms": rounded(self.large.p50_ms), "full_p99_ms": rounded(self.large.p99_ms), "ratio": rounded(self.ratio()),
        })
    }
}

/// All of a run.
#[derive(Debug)]
pub struct Report {
    /// In the order in which it was measured.
    pub compared: Vec<Compared>,
    /// The rest, as one object.
    pub sums: Value,
    /// Statements with their plans, if they were asked for.
    pub plans: Vec<(String, String)>,
}

/// Runs the measurement.
pub async fn run(options: Options) -> Result<Report> {
    let services = Services::from_env();
    let url = services.fresh_database().await;
    let load = Load { queued: 0, alone: 0, engines: 1, queue_depth: 64 };
    let bench = Bench::start(&url, Some(services.fresh_vhost().await), load).await?;
    let mut generator = Generator::new(&url, options.operations, options.rows).await?;
    generator.fill(FEW.min(options.operations), None).await?;
    generator.settle().await?;
    let small = measure::measure(&bench, &generator.ids(ABOUT).await?).await.context("measure the small database")?;

    let (bytes, started) = (generator.bytes().await?, Instant::now());
    generator.fill(options.operations, Some(&services.dir)).await?;
    let generating_s = started.elapsed().as_secs_f64();
    eprintln!("vacuuming");
    generator.settle().await?;
    let (bytes, settled_s) = (generator.bytes().await? - bytes, started.elapsed().as_secs_f64() - generating_s);
    let about = generator.ids(ABOUT).await?;
    let large = measure::measure(&bench, &about).await.context("measure the large database")?;
    let first = about.get(about.len() / 2).copied().context("operations")?;
    let plans = if options.explain { plans(&bench.database, first).await? } else { vec![] };
    bench.end().await?;
    generator.end().await?;

    let compared: Vec<_> = small.times.into_iter().zip(large.times).map(|(small, large)| Compared { small, large }).collect();
    let worst = compared.iter().map(Compared::ratio).fold(0.0, f64::max);
    let sums = json!({
        "bench": "growth", "operations": options.operations, "what": "memory", "slim_rows": options.rows == Rows::Slim,
        "empty_rss_mib": rounded(small.resident as f64 / MIB), "full_rss_mib": rounded(large.resident as f64 / MIB),
        "rss_ratio": rounded(large.resident as f64 / small.resident as f64),
        "peak_rss_mib": rounded(usage::own_peak_bytes()? as f64 / MIB), "database_gib": rounded(bytes as f64 / MIB / 1024.0),
        "generating_s": generating_s.round(), "vacuum_s": settled_s.round(), "worst_ratio": rounded(worst),
    });
    Ok(Report { compared, sums, plans })
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
