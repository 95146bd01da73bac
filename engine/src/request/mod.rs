//! Requests: commands about an existing operation. One file each, one line in `find`.

mod abandon;
mod cancel;
mod destroy;
mod retry;

use crate::{
    command::Command,
    database::Failed,
    journal::{rows::state_name, unit::Unit},
    machine::{self, Event, Ignored, Operation},
    mutant::{self, Mutant},
};
use longshore_schema::{
    fault::{Fault, code, shown},
    ids::OperationId,
    wire::Reply,
};
use serde_json::Value;

/// A request: what event a body asks for, and what it means if the event doesn't apply.
#[derive(Debug)]
pub struct Request {
    /// As in commands.
    pub kind: &'static str,
    /// What its body may have.
    fields: &'static [&'static str],
    event: fn(&Value, &Asked) -> Result<Event, Fault>,
    ignored: fn(&Operation, &Ignored) -> Result<(), Fault>,
    /// The fault to put in on purpose that leaves it undone.
    unheard: Mutant,
}

/// What a request knows about the operation.
#[derive(Debug)]
pub struct Asked {
    /// Whether somebody holds the object.
    pub held: bool,
}

/// All requests, alphabetical.
const ALL: &[Request] = &[abandon::REQUEST, cancel::REQUEST, destroy::REQUEST, retry::REQUEST];

/// The request of that kind.
pub fn find(kind: &str) -> Option<&'static Request> {
    ALL.iter().find(|it| it.kind == kind)
}

/// Their kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|it| it.kind)
}

/// Applies a request to the operation that it names.
pub async fn absorb(
    unit: &mut Unit<'_>,
    request: &Request,
    command: &Command,
    tenant: &str,
) -> Result<Result<Reply, Fault>, Failed> {
    if let Some(unknown) = command.body.as_object().and_then(|it| it.keys().find(|it| !request.fields.contains(&it.as_str()))) {
        let (unknown, known) = (shown(unknown), request.fields.join(", "));
        let why = format!("body of {}: unknown field `{unknown}`; there are {known}", request.kind);
        return Ok(Err(Fault::permanent(code::COMMAND_MALFORMED, why)));
    }
    let named: Result<OperationId, _> = serde_json::from_value(command.body["operation"].clone());
    let Ok(id) = named else {
        let why = format!("body of {}: `operation` is the id of an operation", request.kind);
        return Ok(Err(Fault::permanent(code::COMMAND_MALFORMED, why)));
    };
    unit.load([id]).await?;
    let Some(loaded) = unit.get(id).filter(|it| it.row().tenant == tenant) else {
        return Ok(Err(Fault::permanent(code::OPERATION_UNKNOWN, format!("there is no operation {id}"))));
    };
    let event = match (request.event)(&command.body, &Asked { held: loaded.row().holders > 0 }) {
        Ok(event) => event,
        Err(fault) => return Ok(Err(fault)),
    };
    // What would apply isn't applied.
    if mutant::is(Mutant::RefuseRequests)
        && let Some(loaded) = unit.get(id)
    {
        return Ok(Err(wrong_state(loaded.operation(), "nothing can be asked of it")));
    }
    let unheard = mutant::is(request.unheard)
        && unit.get(id).is_some_and(|it| machine::transition(&mut it.operation().clone(), &event).is_ok());
    if !unheard && let Err(ignored) = unit.apply(id, event, &format!("user:{}", command.user)).await? {
        let operation = unit.get(id).map(|it| it.operation());
        if let Some(Err(fault)) = operation.map(|it| (request.ignored)(it, &ignored)) {
            return Ok(Err(fault));
        }
    }
    let state = unit.get(id).map(|it| state_name(it.operation().state).to_owned());
    Ok(Ok(Reply { accepted: true, operation: Some(id), duplicate: false, state, waiting_for: None, fault: None }))
}

/// `operation.wrong-state`, naming the state.
fn wrong_state(operation: &Operation, what: &str) -> Fault {
    let state = state_name(operation.state);
    Fault::permanent(code::OPERATION_WRONG_STATE, format!("operation {} is {state}: {what}", operation.id))
}
