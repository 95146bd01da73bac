//! `retry`: don't wait for the next attempt of a step that rests; try now.

use super::{Request, wrong_state};
use crate::{machine::Event, mutant::Mutant};

pub(super) const REQUEST: Request = Request {
    kind: "retry",
    fields: &["operation"],
    event: |_, _| Ok(Event::RetryRequested),
    ignored: |operation, _| Err(wrong_state(operation, "none of its steps waits for another try")),
    unheard: Mutant::IgnoreRetries,
};
