//! A pair of bars for each question: on the small database and on the large one.

use super::{Drawing, GREY, Look, OURS};
use serde_json::Value;

/// The picture of figures as `longshore-bench` printed them.
pub fn drawing(figures: &[Value]) -> Drawing {
    let times: Vec<_> =
        figures.iter().filter_map(|it| Some((it["what"].as_str()?, median(it, "small")?, median(it, "large")?))).collect();
    let most = times.iter().map(|(_, small, large)| small.max(*large)).fold(0.001, f64::max);
    let first = |name: &str| figures.first().and_then(|it| it[name].as_u64()).unwrap_or(0);
    let title =
        format!("Medians in ms: {} operations (grey), and {} of them (blue)", first("small_operations"), first("operations"));
    let mut drawing = Drawing::new(title, (8.0, 270.0));
    for (what, small, large) in times {
        drawing.bar(what, small / most, &format!("{small:.2}"), Look::Filled(GREY));
        drawing.bar("", large / most, &format!("{large:.2} ({:.1} times)", large / small), Look::Filled(OURS));
        drawing.gap();
    }
    drawing
}

fn median(line: &Value, of: &str) -> Option<f64> {
    line[format!("{of}_p50_ms")].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_no_times_is_not_drawn() {
        let list = json!({
            "what": "list", "operations": 10, "small_operations": 2, "empty_p50_ms": 9.0, "small_p50_ms": 1.0, "large_p50_ms": 1.5,
        });
        let svg = drawing(&[list, json!({"what": "memory", "operations": 10})]).svg();
        assert!(
            svg.contains("1.50 (1.5 times)") && svg.contains("2 operations (grey), and 10 of") && !svg.contains("memory"),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect x=").count(), 2);
    }
}
