//! Sizes, spans and times as people say them.

use longshore_schema::{site::Size, time::Timestamp};

/// Bytes: `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// A time in UTC, to the millisecond: `2026-01-31 12:00:00.123Z`.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((seconds, fraction)) => format!("{}.{}Z", seconds.replace('T', " "), fraction.get(..3).unwrap_or("000")),
        None => text,
    }
}

/// How long ago: `3 min ago`. A clock that runs ahead says `now`.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.seconds_since(then);
    if seconds < 1.0 { "now".into() } else { format!("{} ago", span(seconds)) }
}

/// A span in its two largest units.
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 || large >= 10 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// Bytes a second: `120 MiB/s`.
pub(crate) fn rate(bytes: u64, seconds: f64) -> String {
    format!("{}/s", Size((bytes as f64 / seconds.max(0.001)) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
        for (seconds, said) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (61.0, "1 min 1 s"),
            (700.0, "11 min"),
            (7500.0, "2 h 5 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }

    #[test]
    fn times_are_told_to_the_millisecond() {
        assert_eq!(time(Timestamp(1_234_567)), "1970-01-01 00:00:01.234Z");
    }

    #[test]
    fn a_time_to_come_is_now() {
        assert_eq!(ago(Timestamp(0), Timestamp(5_000_000)), "now");
        assert_eq!(ago(Timestamp(65_000_000), Timestamp(0)), "1 min 5 s ago");
    }
}
