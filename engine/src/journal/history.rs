//! The history: one row for each event that was applied, in a chain of digests that ends in the operation's row.

use crate::{
    journal::rows::state_name,
    machine::{self, Event, Operation},
    plan::Plan,
};
use anyhow::Context;
use longshore_schema::tables::{history, operation};
use serde_json::json;

/// Digest of a history row: BLAKE3 over the previous row's digest and this row as canonical JSON.
pub fn digest(previous: &[u8], row: &history::Model) -> anyhow::Result<Vec<u8>> {
    let body = json!({
        "operation": row.operation_id, "seq": row.seq, "at": row.at, "event": row.event, "from": row.from_state,
        "to": row.to_state, "actor": row.actor, "detail": row.detail,
    });
    let body = serde_json_canonicalizer::to_vec(&body).context("write a history row as canonical JSON")?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&body);
    Ok(hasher.finalize().as_bytes().to_vec())
}

/// What is wrong with a history, in words; empty if nothing is. Checks that the numbers have no gaps, that the
/// chain of digests ends in the operation's row, and that folding the events gives the stored state.
pub fn verify(row: &operation::Model, rows: &[history::Model]) -> Vec<String> {
    let mut wrong = vec![];
    let mut previous: Vec<u8> = vec![];
    let mut replayed = match serde_json::from_value::<Plan>(row.plan.clone()) {
        Ok(plan) => Operation::new(longshore_schema::ids::OperationId(row.id), plan),
        Err(error) => return vec![format!("the plan can't be read: {error}")],
    };
    for (index, entry) in rows.iter().enumerate() {
        if entry.seq != index as i64 + 1 {
            wrong.push(format!("event {} is missing", index + 1));
            break;
        }
        match digest(&previous, entry) {
            Ok(digest) if digest == entry.digest => (),
            _ => wrong.push(format!("event {} was changed, or one before it", entry.seq)),
        }
        previous.clone_from(&entry.digest);
        let event: Event = match serde_json::from_str(&entry.event) {
            Ok(event) => event,
            Err(error) => {
                wrong.push(format!("event {} can't be read: {error}", entry.seq));
                continue;
            }
        };
        match machine::transition(&mut replayed, &event) {
            Ok(_) if state_name(replayed.state) == entry.to_state => (),
            Ok(_) => wrong.push(format!("event {} leads to {}, not {}", entry.seq, state_name(replayed.state), entry.to_state)),
            Err(ignored) => wrong.push(format!("event {} {ignored}", entry.seq)),
        }
    }
    if rows.len() as i64 != row.version {
        wrong.push(format!("the operation has {} events, the history {}", row.version, rows.len()));
    }
    if previous != row.digest {
        wrong.push("the chain doesn't end in the operation's digest".into());
    }
    if state_name(replayed.state) != row.state {
        wrong.push(format!("replaying the history gives {}, not {}", state_name(replayed.state), row.state));
    }
    if replayed.output != row.output {
        wrong.push("replaying the history gives another output".into());
    }
    // As the row has it: why it is to stop, as long as that isn't decided.
    let fault = replayed.stop.as_ref().or(replayed.fault.as_ref());
    if fault.and_then(|it| serde_json::to_value(it).ok()) != row.fault {
        wrong.push("replaying the history gives another fault".into());
    }
    wrong
}
