//! Operations a second beside what others reached elsewhere, and how long each of many that were asked for at once took.

use super::{Drawing, Line, Look, OTHER, OURS};
use serde_json::Value;

/// Operations of four steps a second, with 2,000 queued, of others: celery 5.7.0, procrastinate 3.10.0, dbos 0.5.0 (Rust) and
/// steno 0.5.0. No run of ours: table "Peers" of rig A in `peers.md` of the project's facts, measured on 2026-11-22 on a quiet
/// virtual machine of two cores, PostgreSQL 15 with fsync, and a quorum queue of RabbitMQ 3.10 for Celery.
const PEERS: [(&str, f64); 4] = [
    ("Celery, a chain of four, RabbitMQ", 95.0),
    ("procrastinate, four chained jobs", 136.0),
    ("DBOS (Rust), steps in one process", 588.0),
    ("steno, steps in one process", 685.0),
];
/// What the picture says of them.
const SOURCE: [&str; 2] = [
    "Dashed: not of this run. Measured on 2026-11-22 on another machine (two cores, quiet); from `peers.md`",
    "of the project's facts, rig A: celery 5.7.0, procrastinate 3.10.0, dbos 0.5.0, steno 0.5.0.",
];

/// Our own runs by their `parts`: name and colour.
const RUNS: [(&str, &str, &str); 2] =
    [("services", "Longshore, PostgreSQL + RabbitMQ", OURS), ("embedded", "Longshore, SQLite + embedded", OTHER)];

/// The picture of figures as `longshore-bench` printed them.
pub fn drawing(figures: &[Value]) -> Drawing {
    let of = |parts: &str| figures.iter().find(|it| it["parts"] == parts);
    let runs: Vec<_> = RUNS.iter().filter_map(|(parts, name, colour)| Some((of(parts)?, *name, *colour))).collect();
    let number = |run: &Value, name: &str| run[name].as_f64().unwrap_or(0.0);
    let rates = runs.iter().map(|(run, ..)| number(run, "operations_per_s"));
    let most = rates.chain(PEERS.map(|it| it.1)).fold(1.0, f64::max);
    let mut drawing = Drawing::new("Operations of four steps a second, many queued", (8.0, 240.0));
    for (run, name, colour) in &runs {
        let rate = number(run, "operations_per_s");
        drawing.bar(name, rate / most, &format!("{rate:.0}"), Look::Filled(colour));
    }
    for (name, rate) in PEERS {
        drawing.bar(name, rate / most, &format!("{rate:.0}"), Look::Dashed);
    }
    SOURCE.iter().for_each(|line| drawing.words(line));
    drawing.gap();
    drawing.words("Part of the queued operations that are Ready, by the time since all were asked for:");
    let longest = runs.iter().map(|(run, ..)| number(run, "queued_s")).fold(0.001, f64::max);
    let lines: Vec<_> = runs
        .iter()
        .map(|(run, name, colour)| {
            let short = name.rsplit(", ").next().unwrap_or(name);
            Line { name: short.to_owned(), colour, points: ready(run, longest) }
        })
        .collect();
    let end = format!("{longest:.1} s");
    drawing.lines(("0 s", &end), "all are Ready", &lines);
    for (run, name, _) in &runs {
        let (p50, all) = (number(run, "queued_p50_ms") / 1000.0, number(run, "queued_s"));
        let count = number(run, "operations");
        drawing.words(&format!("{name}: half of {count:.0} are Ready after {p50:.1} s, all after {all:.1} s"));
    }
    drawing
}

/// Points of a line: parts of the longest time, and parts of the operations.
fn ready(run: &Value, longest_s: f64) -> Vec<(f64, f64)> {
    let percentiles = run["queued_percentiles_ms"].as_array().map(Vec::as_slice).unwrap_or_default();
    let points = percentiles.iter().enumerate().map(|(number, ms)| {
        let x = ms.as_f64().unwrap_or(0.0) / 1000.0 / longest_s;
        (x.min(1.0), (number + 1) as f64 / 100.0)
    });
    std::iter::once((0.0, 0.0)).chain(points).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_is_drawn_beside_the_others() {
        let percentiles: Vec<u32> = (1..=99).map(|it| it * 10).collect();
        let run = json!({
            "parts": "services", "operations": 2000, "operations_per_s": 1000.0, "queued_s": 2.0, "queued_p50_ms": 500.0,
            "queued_percentiles_ms": percentiles,
        });
        let svg = drawing(&[run]).svg();
        assert!(svg.contains("half of 2000 are Ready after 0.5 s, all after 2.0 s"), "{svg}");
        assert!(svg.contains("Celery") && svg.matches("<polyline").count() == 1, "{svg}");
        assert!(svg.contains("not of this run") && svg.contains("2026-11-22") && svg.contains("peers.md"), "{svg}");
    }
}
