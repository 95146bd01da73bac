//! Where the time of one operation alone goes: broker, database as we see it, reading for the plan, and the rest, by marks in
//! the bench's courier and the engine's own spans.

use super::{
    engine::{Bench, Fresh, Load, Parts, percentile},
    limits,
    marks::{Interval, Marks, Part, divide},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Operations at once before anything is marked, so that connections are open and statements are prepared.
const WARM_UP: usize = 200;

/// One operation.
struct Traced {
    from: Instant,
    to: Instant,
    intervals: Vec<Interval>,
}

impl Traced {
    fn took(&self) -> Duration {
        self.to - self.from
    }

    fn of(&self, part: Part) -> impl Iterator<Item = &Interval> {
        self.intervals.iter().filter(move |it| it.part == part)
    }

    /// What it waited for, when: milliseconds since it was asked for.
    fn timeline(&self) -> Value {
        let at = |time: Instant| rounded(ms(time.saturating_duration_since(self.from)));
        self.intervals.iter().map(|it| json!([it.what, at(it.from), at(it.to)])).collect()
    }
}

/// Runs so many, one after the other; the answer is one flat JSON object. `marks` must be what the process's subscriber has.
pub async fn run(parts: Parts, count: usize, marks: &Marks) -> Result<Value> {
    ensure!(count > 0, "there is nothing to trace: ask for at least one operation with --alone");
    let Fresh { services, scratch: _scratch, url, vhost } = parts.fresh().await?;
    let load = Load { queued: 0, alone: count, engines: 1, queue_depth: 64 };
    let bench = Bench::start_marked(&url, vhost, load, Some(marks.clone())).await?;
    bench.submit_and_wait(WARM_UP).await.context("warm up")?;
    marks.take();
    let operations = bench.one_by_one(count).await?;
    let intervals = marks.take();
    bench.end().await?;
    let traced = operations.into_iter().map(|(from, to)| {
        let intervals = intervals.iter().filter(|it| it.to > from && it.from < to).cloned().collect();
        Traced { from, to, intervals }
    });
    let mut figures = figures(parts, traced.collect());
    if let Some(services) = services {
        let messages = limits::messages_per_s(&services.fresh_vhost().await, 1, 1_000).await?;
        let commits = limits::commits_per_s(&services.fresh_database().await, 1, 5).await?;
        figures["limit_message_ms"] = json!(rounded(1000.0 / messages));
        figures["limit_commit_ms"] = json!(rounded(1000.0 / commits));
    }
    Ok(figures)
}

/// Means of the fifth in the middle, by the time that they took: it is the median's time that divides, and their parts add up.
fn figures(parts: Parts, mut traced: Vec<Traced>) -> Value {
    traced.sort_by_key(Traced::took);
    let fifth = (traced.len() / 5).max(1);
    let middle = &traced[(traced.len() - fifth) / 2..][..fifth];
    let mean = |of: &dyn Fn(&Traced) -> f64| rounded(middle.iter().map(of).sum::<f64>() / fifth as f64);
    let share = |number: usize| mean(&|it| ms(divide(&it.intervals, it.from, it.to)[number]));
    let count = |part| mean(&|it| it.of(part).count() as f64);
    let mut took: Vec<f64> = traced.iter().map(|it| ms(it.took())).collect();
    // As we see them: the reading for the plan is part of the first one.
    let first = mean(&|it| it.of(Part::Transaction).next().map_or(0.0, |it| ms(it.took())));
    let transactions = mean(&|it| it.of(Part::Transaction).map(|it| ms(it.took())).sum());
    let later = (transactions - first) / (count(Part::Transaction) - 1.0).max(1.0);
    json!({
        "bench": "engine", "what": "one operation alone", "parts": format!("{parts:?}").to_lowercase(),
        "operations": traced.len(), "p50_ms": rounded(percentile(&mut took, 0.5)), "middle_operations": fifth,
        "middle_ms": mean(&|it| ms(it.took())), "broker_ms": share(Part::Message as usize),
        "database_ms": share(Part::Transaction as usize), "plan_reading_ms": share(Part::Reading as usize), "rest_ms": share(3),
        "messages": count(Part::Message), "transactions": count(Part::Transaction),
        "first_transaction_ms": first, "later_transaction_ms": rounded(later), "timeline": traced[traced.len() / 2].timeline(),
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::EnvFilter;

    /// On one thread, so that its subscriber sees every task.
    #[tokio::test]
    async fn each_message_and_each_transaction_of_an_operation_is_marked() {
        let marks = Marks::default();
        let _listening = tracing::subscriber::set_default(marks.clone().subscriber(EnvFilter::new("off")));
        let traced = run(Parts::Embedded, 5, &marks).await.unwrap();
        let number = |name: &str| traced[name].as_f64().unwrap();
        // The command, four steps with their reports, and the event; what the worker says of itself may come between.
        assert!(number("messages") >= 10.0 && number("transactions") >= 5.0, "{traced}");
        let parts: f64 = ["broker_ms", "database_ms", "plan_reading_ms", "rest_ms"].iter().map(|name| number(name)).sum();
        assert!((parts - number("middle_ms")).abs() < 0.01, "{traced}");
        let what = |name: &str| traced["timeline"].as_array().unwrap().iter().any(|it| it[0] == name);
        assert!(what("longshore.commands") && what("longshore.events") && what("transact") && what("surroundings"), "{traced}");
        assert!(run(Parts::Embedded, 0, &marks).await.is_err());
    }
}
