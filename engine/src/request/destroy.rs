//! `destroy`: remove an object; recorded while somebody holds it. An unfinished operation is cancelled.

use super::Request;
use crate::{machine::Event, mutant::Mutant};

pub(super) const REQUEST: Request = Request {
    kind: "destroy",
    fields: &["operation"],
    event: |_, asked| Ok(Event::DestroyRequested { held: asked.held }),
    ignored: |_, _| Ok(()),
    unheard: Mutant::IgnoreDestroys,
};
