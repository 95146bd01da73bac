//! Growth: what is asked every day, on an empty database, on a small one and on one with millions of operations that are over.
//! The small one grows into the large one, and one engine runs all the while, so that its connections, its plans and its memory
//! are those that it began with.

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
use measure::Measured;
pub use measure::Times;
use serde_json::{Value, json};
use std::time::Instant;
pub use work::{Touched, touched_by};

/// Operations in the small database: enough for a whole page of every filter.
const FEW: u64 = 2000;
/// Operations that questions are about.
const ABOUT: u64 = 200;
/// One engine, with the depth of queues that is its own; what it does is asked for by the measurement.
const LOAD: Load = Load { queued: 0, alone: 0, engines: 1, queue_depth: 64 };
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

/// One thing on all databases.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// On one without any operation, if it can be asked there.
    pub empty: Option<Times>,
    /// On the small one.
    pub small: Times,
    /// On the large one.
    pub large: Times,
}

impl Compared {
    /// Median by median.
    pub fn large_to_small(&self) -> f64 {
        self.large.p50_ms / self.small.p50_ms
    }

    /// Median by median.
    pub fn large_to_empty(&self) -> Option<f64> {
        self.empty.as_ref().map(|empty| self.large.p50_ms / empty.p50_ms)
    }

    /// As one object; what wasn't asked of the empty database is null.
    pub fn json(&self, operations: u64) -> Value {
        let Compared { empty, small, large } = self;
        let empty = empty.as_ref();
        json!({
            "bench": "growth", "operations": operations, "small_operations": FEW.min(operations), "what": small.what,
            "empty_p50_ms": empty.map(|it| rounded(it.p50_ms)), "empty_p99_ms": empty.map(|it| rounded(it.p99_ms)),
            "small_p50_ms": rounded(small.p50_ms), "small_p99_ms": rounded(small.p99_ms),
            "large_p50_ms": rounded(large.p50_ms), "large_p99_ms": rounded(large.p99_ms),
            "large_to_empty": self.large_to_empty().map(rounded), "large_to_small": rounded(self.large_to_small()),
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
    let empty = measure_empty(&services).await.context("measure an empty database")?;
    let url = services.fresh_database().await;
    let bench = Bench::start(&url, Some(services.fresh_vhost().await), LOAD).await?;
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

    let on_empty = |what: &str| empty.times.iter().find(|it| it.what == what).cloned();
    let all = small.times.into_iter().zip(large.times);
    let compared: Vec<_> = all.map(|(small, large)| Compared { empty: on_empty(small.what), small, large }).collect();
    let worst_to_small = compared.iter().map(Compared::large_to_small).fold(0.0, f64::max);
    let worst_to_empty = compared.iter().filter_map(Compared::large_to_empty).fold(0.0, f64::max);
    let sums = json!({
        "bench": "growth", "operations": options.operations, "what": "memory", "slim_rows": options.rows == Rows::Slim,
        "empty_rss_mib": rounded(empty.resident as f64 / MIB), "small_rss_mib": rounded(small.resident as f64 / MIB),
        "large_rss_mib": rounded(large.resident as f64 / MIB),
        "rss_large_to_small": rounded(large.resident as f64 / small.resident as f64),
        "peak_rss_mib": rounded(usage::own_peak_bytes()? as f64 / MIB), "database_gib": rounded(bytes as f64 / MIB / 1024.0),
        "generating_s": generating_s.round(), "vacuum_s": settled_s.round(), "worst_large_to_small": rounded(worst_to_small),
        "worst_large_to_empty": rounded(worst_to_empty),
    });
    Ok(Report { compared, sums, plans })
}

/// On a database of its own, so that the small one has nothing but what is made for it. Its engine ends before the other begins.
async fn measure_empty(services: &Services) -> Result<Measured> {
    let url = services.fresh_database().await;
    let bench = Bench::start(&url, Some(services.fresh_vhost().await), LOAD).await?;
    let measured = measure::measure(&bench, &[]).await?;
    bench.end().await?;
    Ok(measured)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_to_what_and_what_was_not_asked_of_the_empty_database_is_null() {
        let times = |p50_ms| Times { what: "show", p50_ms, p99_ms: 9.0 };
        let all = Compared { empty: Some(times(0.5)), small: times(1.0), large: times(2.0) };
        let json = all.json(10_000_000);
        assert_eq!((&json["large_to_empty"], &json["large_to_small"]), (&json!(4.0), &json!(2.0)), "{json}");
        assert_eq!((&json["operations"], &json["small_operations"]), (&json!(10_000_000), &json!(2000)), "{json}");
        let json = Compared { empty: None, ..all }.json(100);
        assert!(json["empty_p50_ms"].is_null() && json["large_to_empty"].is_null(), "{json}");
        assert_eq!((&json["small_p50_ms"], &json["small_operations"]), (&json!(1.0), &json!(100)), "{json}");
    }
}
