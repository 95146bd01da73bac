//! `longshore history ID`: every event of an operation. With `--verify`, whether it is all there and unchanged.

use crate::{
    ended::Ended,
    print::{human, table},
    session::Session,
};
use anyhow::Context;
use clap::Args;
use longshore_engine::audit::{self, HistoryView};
use longshore_schema::{ids::OperationId, tables::operation};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

/// `history`
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The operation's id.
    #[arg(value_name = "ID")]
    operation: OperationId,
    /// Check the numbers, the chain of digests, and that replaying the events gives the stored state.
    #[arg(long)]
    verify: bool,
}

impl History {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let (database, id) = (session.reading().await?, self.operation);
        let row = operation::Entity::find_by_id(id.0).one(database.read()).await;
        let row = row.context("read the operation").map_err(Ended::Unreachable)?.ok_or(Ended::NotFound(id))?;
        let mut rows: Vec<HistoryView> = vec![];
        loop {
            let after = rows.last().map_or(0, |it| it.seq);
            let page = audit::history(database.read(), id, after, 1000).await.map_err(Ended::Unreachable)?;
            let last = page.len() < 1000;
            rows.extend(page);
            if last {
                break;
            }
        }
        let steps = step_names(&row.plan);
        session.out.list(&rows, |rows| text(rows, &steps))?;
        if !self.verify {
            return Ok(());
        }
        let wrong = audit::verify_history(database.read(), id).await.map_err(Ended::Unreachable)?.ok_or(Ended::NotFound(id))?;
        if session.out.json {
            session.out.json(&json!({"operation": id, "verified": wrong.is_empty(), "events": rows.len(), "wrong": wrong}))?;
        } else if wrong.is_empty() {
            session.out.text(format!("verified: {} events, the chain of digests and the replay agree", rows.len()))?;
        }
        if wrong.is_empty() { Ok(()) } else { Err(Ended::Found(format!("the history of {id} is wrong: {}", wrong.join("; ")))) }
    }
}

/// Names of a plan's steps, in their order.
fn step_names(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().into_iter().flatten();
    steps.map(|it| it["name"].as_str().unwrap_or("?").to_owned()).collect()
}

fn text(rows: &[HistoryView], steps: &[String]) -> String {
    let mut lines = table::new(&["#", "at", "after", "event", "state", "by"]);
    let first = rows.first().map(|it| it.at);
    for it in rows {
        let state = match &it.from {
            Some(from) if *from == it.to => String::new(),
            Some(from) => format!("{from} -> {}", it.to),
            None => it.to.clone(),
        };
        lines.add_row([
            table::right(it.seq),
            table::cell(human::time(it.at)),
            table::right(human::span(it.at.seconds_since(first.unwrap_or(it.at)))),
            table::cell(describe(&it.event, steps)),
            table::cell(state),
            table::cell(&it.actor),
        ]);
    }
    table::text(lines, &[3, 5])
}

/// An event in words. `steps` may be empty: then steps have numbers.
pub(crate) fn describe(event: &Value, steps: &[String]) -> String {
    let name = event["event"].as_str().unwrap_or("?").replace('_', " ");
    let attempt = &event["attempt"];
    let seq = attempt["seq"].as_u64().or_else(|| event["seq"].as_u64());
    let step = seq.map(|seq| {
        let step = usize::try_from(seq).ok().and_then(|seq| steps.get(seq)).cloned().unwrap_or_else(|| format!("step {seq}"));
        match (attempt["way"].as_str(), attempt["n"].as_u64()) {
            (Some("do"), Some(n)) if n > 1 => format!(" {step} (attempt {n})"),
            (Some("do") | None, _) => format!(" {step}"),
            (Some(way), _) => format!(" {way} of {step}"),
        }
    });
    let fault = [&event["result"]["fault"], &event["fault"]].into_iter().find(|it| it.is_object());
    let fault = fault.map(|it| format!(": {}: {}", text_of(&it["code"]), text_of(&it["message"])));
    let reason = event["reason"].as_str().map(|it| format!(": {it}"));
    [Some(name), step, fault, reason].into_iter().flatten().collect()
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_words() {
        let steps = ["volume.measure".to_owned(), "object.copy".to_owned()];
        for (event, said) in [
            (json!({"event": "accepted"}), "accepted"),
            (json!({"event": "performed", "seq": 0, "output": {}}), "performed volume.measure"),
            (json!({"event": "started", "attempt": {"seq": 1, "n": 2, "way": "do"}}), "started object.copy (attempt 2)"),
            (
                json!({"event": "reported", "attempt": {"seq": 1, "n": 3, "way": "undo"},
                    "result": {"fault": {"code": "store.full", "message": "no room"}}}),
                "reported undo of object.copy: store.full: no room",
            ),
            (json!({"event": "abandon_requested", "reason": "gone"}), "abandon requested: gone"),
            (json!({"event": "timer_fired", "attempt": {"seq": 9, "n": 1, "way": "do"}}), "timer fired step 9"),
        ] {
            assert_eq!(describe(&event, &steps), said);
        }
    }
}
