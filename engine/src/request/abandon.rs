//! `abandon`: give up undoing, or asking if a commit took effect. What may remain is written down, and stays booked.

use super::{Request, wrong_state};
use crate::{machine::Event, mutant::Mutant};
use longshore_schema::fault::{Fault, code};

pub(super) const REQUEST: Request = Request {
    kind: "abandon",
    fields: &["operation", "reason"],
    event: |body, _| match body["reason"].as_str().map(str::trim) {
        Some(reason) if !reason.is_empty() => Ok(Event::AbandonRequested { reason: reason.to_owned() }),
        _ => Err(Fault::permanent(code::COMMAND_MALFORMED, "body of abandon: `reason` says why, for those who read the history")),
    },
    ignored: |operation, _| {
        Err(wrong_state(operation, "only an undo can be abandoned, or the question whether its commit took effect"))
    },
    unheard: Mutant::IgnoreAbandons,
};
