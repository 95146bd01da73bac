//! What an answer must be: it fits what was announced of the operation before its commit, or in it. Of a batch nobody outside
//! knows in which order its items were absorbed, so every state that an operation was in by then may be the one that decided.

use super::{
    job::VOLUME_BOOKED,
    known::{Known, Told},
    schedule::Simulation,
};
use longshore_engine::command::Command;
use longshore_schema::{fault::code, ids::OperationId, steps::object, wire::Reply};
use serde_json::Value;
use std::sync::Arc;

/// Bytes of the pool that may be booked, as the site's rows have it.
const POOL_LIMIT: &str = "SELECT CAST(total * overcommit * threshold AS INTEGER) FROM place WHERE role = 'pool'";

/// The first answer to a command.
pub(super) type Answer = (Arc<Command>, Reply);

/// What was asked for when an operation was accepted.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) kind: String,
    pub(super) body: Value,
    pub(super) priority: i64,
    /// Microseconds.
    pub(super) deadline: i64,
    /// What the volume held then that is to be backed up.
    pub(super) content: u64,
}

impl Asked {
    /// Whether it fails when there is no room.
    pub(super) fn refuses(&self) -> bool {
        self.body["when_full"] == "refuse"
    }
}

/// What names a command in answers; the engine's own have no more than their message id.
pub(super) fn key(command: &Command) -> String {
    command.correlation_id.clone().unwrap_or_else(|| command.message_id.clone())
}

impl Told {
    /// Whether it was in that state before this commit, or in it.
    pub(super) fn was(&self, state: &str) -> bool {
        self.lately.iter().any(|it| it == state)
    }

    /// Whether it was in no other state before this commit, nor in it.
    pub(super) fn was_only(&self, state: &str) -> bool {
        !self.lately.is_empty() && self.lately.iter().all(|it| it == state)
    }

    /// Whether it was over before this commit.
    pub(super) fn was_over(&self) -> bool {
        self.was_only("failed") || self.was_only("destroyed")
    }
}

impl Asked {
    /// The place whose space it needs, if it needs any.
    pub(super) fn place(&self) -> &Value {
        &self.body[if self.kind == "create-volume" { "pool" } else { "store" }]
    }
}

impl Known {
    /// Operations of that kind, with what was asked for.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = (OperationId, &Told, &Asked)> {
        let asked = self.told.iter().filter_map(|(id, told)| Some((*id, told, told.asked.as_ref()?)));
        asked.filter(move |(_, _, asked)| asked.kind == kind)
    }
}

impl Simulation<'_> {
    /// One message id of a user means one command for ever. Whether this is the first answer to it.
    pub(super) fn is_first_answer(&mut self, command: &Command, reply: &Reply) -> bool {
        let id = (command.user.clone(), command.message_id.clone());
        let reused = reply.fault.as_ref().is_some_and(|it| it.code == code::COMMAND_ID_REUSED);
        let answer = Reply { duplicate: false, ..reply.clone() };
        let asked = (command.kind.clone(), command.body.clone());
        let (first, right) = match self.known.ids.get(&id) {
            None => (true, !reused && !reply.duplicate),
            Some((before, known)) if *before == asked => (false, reply.duplicate && *known == answer),
            Some(_) => (false, reused && !reply.accepted && !reply.duplicate),
        };
        if !right {
            let (user, id) = &id;
            self.wrong.push(format!("{} of {user} with message id {id}, first: {first}, was answered {reply:?}", command.kind));
        }
        match first {
            true => drop(self.known.ids.insert(id, (asked, answer))),
            false => self.known.count(if reused { "id reused" } else { "asked again" }),
        }
        first
    }

    /// The answers of one commit, when all is known that it announced.
    pub(super) fn judge(&mut self, answers: &[Answer]) {
        for (command, reply) in answers {
            let code = reply.fault.as_ref().map_or("", |it| it.code.as_str());
            let named = |field: &str| serde_json::from_value::<OperationId>(command.body[field].clone()).ok();
            let why = match command.kind.as_str() {
                "cancel" | "destroy" | "abandon" | "retry" => {
                    named("operation").and_then(|id| self.what_is_wrong(&command.kind, id, reply.accepted, code))
                }
                "copy-object" => self.what_is_wrong_with_a_copy(command, named("from"), reply, code),
                "create-volume" => self.what_is_wrong_with_a_volume(command, named("from"), reply, code),
                "verify-object" => self.what_is_wrong_with_the_use_of(named("object"), reply.accepted, code),
                _ if reply.accepted || (code == code::VOLUME_CLAIMED && self.is_claimed(command)) => None,
                _ => Some("nothing is in its way"),
            };
            let state = reply.operation.zip(reply.state.as_ref()).filter(|_| reply.accepted);
            let no_such_state = state.is_none_or(|(id, state)| self.known.told.get(&id).is_none_or(|it| !it.was(state)));
            let why = why.or_else(|| (reply.accepted && no_such_state).then_some("it is in no such state"));
            if let Some(why) = why {
                self.wrong.push(format!("{} {} was answered {reply:?}: {why}", command.kind, command.body));
            }
        }
    }

    /// With the answer to a request.
    fn what_is_wrong(&self, request: &str, id: OperationId, accepted: bool, code: &str) -> Option<&'static str> {
        let told = self.known.told.get(&id)?;
        let (right, why) = match (request, accepted) {
            ("destroy", _) => (accepted, "a destroy is never refused"),
            ("cancel", true) => (!told.was_only("ready"), "it was Ready"),
            ("cancel", false) => {
                (code == code::CANCEL_TOO_LATE && (told.was("ready") || told.may_be_committed), "it isn't too late")
            }
            ("abandon", true) => {
                let may_be_probed = told.was("copying") && object::WRITERS.iter().any(|it| told.succeeded.contains(*it));
                (told.was("destroying") || may_be_probed, "nothing of it was being undone or probed")
            }
            ("abandon", false) => {
                let is_probed = told.was_probed && told.is_probed();
                (
                    code == code::OPERATION_WRONG_STATE && !told.was_only("destroying") && !is_probed,
                    "it is being undone or probed",
                )
            }
            // What follows from it is checked with what was sent.
            (_, true) => return None,
            (_, false) => {
                let rests = told.rested && told.rests && !self.place.sqlite.waits_to_be_sent(id);
                (code == code::OPERATION_WRONG_STATE && !rests, "one of its steps rests")
            }
        };
        (!right).then_some(why)
    }

    /// With the answer to who wants to use an object.
    fn what_is_wrong_with_the_use_of(&self, object: Option<OperationId>, accepted: bool, code: &str) -> Option<&'static str> {
        let told = self.known.told.get(&object?)?;
        let (right, why) = match accepted {
            true => (told.was("ready") && !told.was_to_go, "its object isn't there"),
            false => (
                [code::OBJECT_GONE, code::OBJECT_NOT_READY].contains(&code) && (told.must_go || !told.was_only("ready")),
                "its object is Ready",
            ),
        };
        (!right).then_some(why)
    }

    fn what_is_wrong_with_a_copy(
        &self,
        command: &Command,
        from: Option<OperationId>,
        reply: &Reply,
        code: &str,
    ) -> Option<&'static str> {
        let store = command.body["store"].as_str().unwrap_or_default();
        match code {
            code::STORE_FULL if command.body["when_full"] == "refuse" => {
                self.store_has_room_for_all(store, 1).then_some("there is room")
            }
            code::STORE_FULL => Some("it was to wait"),
            _ if reply.waiting_for.is_some() && self.store_has_room_for_all(store, 0) => Some("there is room"),
            _ => self.what_is_wrong_with_the_use_of(from, reply.accepted, code),
        }
    }

    fn what_is_wrong_with_a_volume(
        &self,
        command: &Command,
        from: Option<OperationId>,
        reply: &Reply,
        code: &str,
    ) -> Option<&'static str> {
        let volumes = self.known.of_kind("create-volume");
        let volumes = volumes.filter(|(id, told, _)| !told.was_over() || self.world.abandoned.contains(id)).count() as u64;
        let [limit] = self.place.sqlite.numbers::<1>(POOL_LIMIT).expect("the pool's limit");
        // With this one, which is counted already if it was accepted.
        let all_fit = |more: u64| (volumes + more) * VOLUME_BOOKED <= limit.unwrap_or(0).unsigned_abs();
        match code {
            code::VOLUME_CLAIMED => (!self.is_claimed(command)).then_some("nobody is at work on it"),
            code::POOL_FULL if command.body["when_full"] == "refuse" => all_fit(1).then_some("there is room"),
            code::POOL_FULL => Some("it was to wait"),
            _ if reply.waiting_for.is_some() && all_fit(0) => Some("there is room"),
            _ => self.what_is_wrong_with_the_use_of(from, reply.accepted, code),
        }
    }

    /// Whether another operation may have the outside name that a command wants.
    fn is_claimed(&self, command: &Command) -> bool {
        let name = if command.kind == "sweep-store" { "store" } else { "volume" };
        self.known.of_kind(&command.kind).any(|(id, told, asked)| {
            let works = told.lately.iter().any(|it| ["allocated", "copying"].contains(&it.as_str()));
            let undoes = told.was("destroying") && !self.world.were_ready.contains(&id);
            (works || undoes) && asked.body[name] == command.body[name]
        })
    }
}
