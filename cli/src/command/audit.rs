//! `longshore audit`: what happened to all operations, the newest first.

use super::history::describe;
use crate::{
    ended::Ended,
    print::{human, table},
    session::{self, Session},
};
use clap::Args;
use longshore_engine::audit::{self, HistoryView};
use longshore_schema::time::Timestamp;

/// `audit`
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only from then on: a time as 2026-01-31T12:00:00Z, or a span back from now as 30m, 12h or 7d.
    #[arg(long, value_parser = since)]
    since: Option<Since>,
    /// Only operations of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only what this one did: user:NAME, worker:ID, engine or clock.
    #[arg(long)]
    actor: Option<String>,
    /// At most so many, 1 to 10000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
}

/// A time, or a span before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Time(Timestamp),
    SecondsAgo(i64),
}

fn since(text: &str) -> Result<Since, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let span = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?.parse::<u32>().ok()?, *seconds)));
    if let Some((number, seconds)) = span {
        return Ok(Since::SecondsAgo(i64::from(number) * seconds));
    }
    let time = serde_json::from_value(serde_json::Value::String(text.to_owned()));
    time.map(Since::Time).map_err(|_| "write a time as 2026-01-31T12:00:00Z, or a span as 30m, 12h or 7d".into())
}

impl Audit {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let database = session.reading().await?;
        let now = session::now(&database).await?;
        let since = self.since.map(|it| match it {
            Since::Time(time) => time,
            Since::SecondsAgo(seconds) => Timestamp(now.0.saturating_sub(seconds.saturating_mul(1_000_000))),
        });
        let only = audit::Only { since, before: None, kind: self.kind.as_deref(), actor: self.actor.as_deref() };
        let rows = audit::audit(database.read(), only, self.limit).await.map_err(Ended::Unreachable)?;
        session.out.list(&rows, |rows| text(rows, now))
    }
}

fn text(rows: &[HistoryView], now: Timestamp) -> String {
    if rows.is_empty() {
        return "nothing happened".into();
    }
    let mut lines = table::new(&["at", "", "operation", "#", "event", "state", "by"]);
    for it in rows {
        lines.add_row([
            table::cell(human::time(it.at)),
            table::right(human::ago(now, it.at)),
            table::cell(it.operation),
            table::right(it.seq),
            table::cell(describe(&it.event, &[])),
            table::cell(&it.to),
            table::cell(&it.actor),
        ]);
    }
    table::text(lines, &[4, 5, 6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_time_or_a_span() {
        assert_eq!(since("12h"), Ok(Since::SecondsAgo(43_200)));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::Time(Timestamp(1_000_000))));
        for wrong in ["", "h", "-1h", "yesterday", "12"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
