//! `cancel`: stop an operation that isn't Ready, and undo what it did. Asking again has no effect.

use super::Request;
use crate::{
    machine::{Event, Ignored, State},
    mutant::{self, Mutant},
};
use longshore_schema::fault::{Fault, code};

pub(super) const REQUEST: Request = Request {
    kind: "cancel",
    fields: &["operation"],
    event: |_, _| Ok(Event::CancelRequested),
    ignored: |operation, ignored| match (operation.state, ignored) {
        (State::Ready, _) if mutant::is(Mutant::AcceptLateCancels) => Ok(()),
        (State::Ready, _) | (_, Ignored::TooLate) => {
            let why = format!("operation {} is past the point of no return; `destroy` removes what it makes", operation.id);
            Err(Fault::permanent(code::CANCEL_TOO_LATE, why))
        }
        (State::Allocated | State::Copying | State::Destroying(_) | State::Destroyed | State::Failed, _) => Ok(()),
    },
    unheard: Mutant::IgnoreCancels,
};
