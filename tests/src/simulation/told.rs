//! What the control plane is told, by answers and events alone, and that it comes true. Nothing here asks the engine's tables
//! whether they think so.

use super::{
    judge::{Answer, Asked, key},
    known::is_object,
    schedule::Simulation,
    world::{File, Kept},
};
use longshore_engine::{
    command::Command,
    journal::{Absorbed, Item},
};
use longshore_schema::step::Step as _;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::{StepMessage, Way},
    steps::object::{Commit, Root},
    tables::outbox,
    wire::{CloudEvent, EventData, Reply, names},
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// What one commit said.
#[derive(Debug, Default)]
struct Said {
    /// Operations that are to stop since this commit.
    stops: Vec<OperationId>,
    /// First answers to commands.
    answers: Vec<Answer>,
    /// What failed, and why.
    failures: Vec<(OperationId, Fault)>,
    /// What became Ready.
    made: Vec<OperationId>,
    /// Requests that were accepted for the first time.
    requests: Vec<(OperationId, String)>,
    /// Operations of which something was heard, or of which a step was sent.
    about: BTreeSet<OperationId>,
}

impl Simulation<'_> {
    /// Notes what a commit said, before anything else happens.
    pub(super) fn observe(&mut self, items: &[Item], absorbed: &[Absorbed], rows: &[outbox::Model], passing: &[outbox::Model]) {
        let mut said = Said::default();
        self.known.next_commit();
        for (item, absorbed) in items.iter().zip(absorbed) {
            match (item, absorbed) {
                (Item::Command(command), Absorbed::Replied(reply)) => self.observe_reply(command, reply, &mut said),
                _ => self.observe_item(item),
            }
        }
        for row in rows.iter().filter(|it| it.exchange == names::EVENTS) {
            let Ok(event) = serde_json::from_str::<CloudEvent>(&row.body) else { continue };
            said.about.insert(event.data.operation);
            self.check_event(row, &event.r#type, &event.data);
            self.observe_event(event.id, event.data, &mut said);
        }
        for row in passing.iter().filter(|it| it.exchange == names::STEPS) {
            let message: StepMessage = serde_json::from_str(&row.body).expect("a step message");
            said.about.insert(message.attempt.operation);
            self.check_step(row, &message);
            self.observe_step(&message);
        }
        self.observe_words(passing, &said.stops);
        self.check_requests(&said);
        self.judge(&said.answers);
        said.failures.iter().for_each(|(id, fault)| self.check_failure(*id, fault));
        said.made.iter().for_each(|id| self.check_made(*id));
        self.known.asked_about.extend(said.requests.iter().map(|it| it.0));
        self.world.check_precious("a commit");
    }

    fn observe_reply(&mut self, command: &Arc<Command>, reply: &Reply, said: &mut Said) {
        let (message_id, kind) = (key(command), command.kind.as_str());
        let first = self.known.replies.entry(message_id.clone()).or_insert_with(|| Reply { duplicate: false, ..reply.clone() });
        if *first != (Reply { duplicate: false, ..reply.clone() }) {
            self.wrong.push(format!("message {message_id} was answered {first:?} and {reply:?}"));
        }
        let typed = reply.fault.as_ref().is_some_and(|it| it.code != code::INTERNAL && !it.code.is_empty());
        if reply.accepted != reply.fault.is_none() || (!reply.accepted && !typed) {
            self.wrong.push(format!("message {message_id} was answered {reply:?}"));
        }
        if self.is_first_answer(command, reply) {
            said.answers.push((command.clone(), reply.clone()));
        }
        let Some(id) = reply.operation.filter(|_| reply.accepted && !reply.duplicate) else { return };
        self.known.count(kind);
        let told = self.known.told.entry(id).or_default();
        match kind {
            "cancel" | "destroy" => {
                if told.stopped.is_none() {
                    let in_time = told.asked.as_ref().is_some_and(|it| self.now < it.deadline);
                    // Whatever it says now, it was under way.
                    told.may_still_run = in_time && told.is_at_work() && told.running.is_some();
                    said.stops.push(id);
                }
                told.stopped.get_or_insert(self.now);
                told.must_not_be_ready |= told.is_at_work() && !told.may_be_committed;
            }
            "retry" => told.needed.clear(),
            "abandon" => (),
            _ if self.known.accepted.contains(&id) => return,
            _ => {
                self.known.accepted.push(id);
                self.observe_accepted(id, command);
                if reply.waiting_for.is_some() {
                    self.known.count("waits");
                }
                let name = format!("{kind}#{}", self.known.accepted.len());
                self.names.insert(id, name);
                return;
            }
        }
        if kind == "destroy" {
            told.must_go = true;
        }
        if kind == "destroy" || kind == "abandon" {
            self.world.gives_up(id);
        }
        if kind == "abandon" {
            if self.known.told[&id].was_probed {
                self.known.count("abandon while probed");
            }
            self.world.abandoned.insert(id);
        }
        said.requests.push((id, kind.to_owned()));
    }

    fn observe_accepted(&mut self, id: OperationId, command: &Command) {
        let after_s = command.body["deadline_s"].as_u64().unwrap_or(self.config.deadline_s);
        let source = command.body["volume"].as_str().and_then(|it| self.world.sources.get(it)).copied();
        let asked = Asked {
            kind: command.kind.clone(),
            body: command.body.clone(),
            priority: i64::from(command.priority.min(9)),
            deadline: self.now + i64::try_from(after_s).expect("seconds of a schedule") * 1_000_000,
            content: source.or_else(|| self.content_of(&command.body["from"])).unwrap_or_default(),
        };
        if is_object(&command.kind) {
            let store = command.body["store"].as_str().unwrap_or_default();
            self.world.stores.insert(id, store.to_owned());
        }
        self.known.told.entry(id).or_default().asked = Some(asked);
    }

    /// What an object holds that must be readable.
    fn content_of(&self, object: &Value) -> Option<u64> {
        let object = serde_json::from_value(object.clone()).ok()?;
        self.world.read(object, self.world.precious.get(&object)?).ok()
    }

    fn observe_event(&mut self, event: String, data: EventData, said: &mut Said) {
        let id = data.operation;
        self.say(|| format!("    {id} is {} {}", data.to, data.fault.as_ref().map_or(String::new(), ToString::to_string)));
        self.known.committed.insert(event);
        let told = self.known.told.entry(id).or_default();
        let follows = data.seq > told.seq && data.from.as_deref().unwrap_or_default() == told.state;
        if !follows || !may_follow(&told.state, &data.to) {
            self.wrong.push(format!("{id} was {:?} ({}), and now it is {data:?}", told.state, told.seq));
        }
        if data.fault.as_ref().is_some_and(|it| it.code == code::INTERNAL) || (data.to == "failed" && data.fault.is_none()) {
            self.wrong.push(format!("{id} is {} because of {:?}", data.to, data.fault));
        }
        let becomes_ready = data.to == "ready";
        let was_late = data.to == "failed" && data.fault.as_ref().is_some_and(|it| it.code == code::DEADLINE_PASSED);
        (told.rests, told.running) = (false, None);
        told.lately.push(data.to.clone());
        if data.to == "failed" {
            said.failures.extend(data.fault.clone().map(|fault| (id, fault)));
        }
        if becomes_ready {
            said.made.push(id);
        }
        let counted = format!("{} {}", data.to, data.kind);
        (told.kind, told.state, told.seq, told.object) = (data.kind, data.to, data.seq, data.object);
        self.known.count(&counted);
        if was_late {
            self.known.count("deadline");
        }
        if becomes_ready {
            self.observe_ready(id);
        } else {
            self.observe_end(id);
        }
    }

    fn observe_ready(&mut self, id: OperationId) {
        let told = &self.known.told[&id];
        let Some(object) = told.object.clone() else { return };
        self.world.were_ready.insert(id);
        match told.kind.as_str() {
            kind if is_object(kind) => match serde_json::from_value::<Root>(object["root"].clone()) {
                Ok(root) => drop(self.world.precious.insert(id, root)),
                Err(error) => self.wrong.push(format!("{id} is Ready without a root: {error}")),
            },
            "create-volume" => self.check_volume(id, &object),
            _ => (),
        }
    }

    fn observe_end(&mut self, id: OperationId) {
        let told = &self.known.told[&id];
        if !["destroying", "destroyed"].contains(&told.state.as_str()) {
            return;
        }
        let was_there = self.world.lets_go(id) | self.world.loses(id);
        if was_there && !self.world.given_up.contains(&id) {
            self.wrong.push(format!("{id} is {}, and nobody asked for it", self.known.told[&id].state));
        }
    }

    /// A volume that was made holds what its object holds.
    fn check_volume(&mut self, id: OperationId, object: &Value) {
        let volume = object["volume"].as_str().unwrap_or_default();
        let found = self.world.volumes.get(volume);
        // Held until now, so still readable, unless it was given up and is about to go.
        let holds = self.content_of(&object["from"]);
        let ours = |it: &File| object["identity"]["id"].as_str() == Some(&it.inode.to_string());
        match found {
            Some(found) if found.content.is_some() && ours(found) && (holds.is_none() || found.content == holds) => {
                let kept = Kept { volume: volume.to_owned(), inode: found.inode };
                self.world.kept.insert(id, kept);
            }
            found => self.wrong.push(format!("volume {volume} is Ready and holds {found:?}, not {holds:?}")),
        }
    }

    /// What is to stop is undone, and not gone on with.
    fn observe_step(&mut self, message: &StepMessage) {
        let (id, way) = (message.attempt.operation, message.attempt.way);
        let told = self.known.told.entry(id).or_default();
        if way == Way::Do && told.stopped.is_some() {
            self.wrong.push(format!("{} is sent, and {id} was to stop before", message.step));
        }
        told.may_be_committed |= way == Way::Do && message.step == Commit::NAME;
        told.sent = Some((message.attempt, message.step.clone()));
        (told.ended, told.rests, told.running) = (false, false, None);
        match way {
            Way::Undo => self.known.count("undo"),
            Way::Probe => self.known.count("probe"),
            Way::Do => (),
        }
    }

    /// What was accepted in a commit shows in it.
    fn check_requests(&mut self, said: &Said) {
        for (id, kind) in &said.requests {
            let told = &self.known.told[id];
            let shows = match kind.as_str() {
                "abandon" => told.is_over(),
                // The next attempt is sent, or waits for room in its queue.
                "retry" => said.about.contains(id) || self.place.sqlite.waits_to_be_sent(*id),
                _ => true,
            };
            if !shows {
                self.wrong.push(format!("{kind} of {id} was accepted, and it is {:?} as before", told.state));
            }
        }
        for id in said.about.iter().chain(said.requests.iter().map(|(id, _)| id)) {
            let told = &self.known.told[id];
            if told.must_not_be_ready && told.state == "ready" {
                self.wrong.push(format!("{id} was to stop, and is Ready"));
            }
        }
    }

    /// At the end everybody knows how everything ended, and what was promised is so.
    pub(super) fn check_told(&mut self) {
        for (id, told) in &self.known.told {
            if told.asked.is_none() {
                self.wrong.push(format!("{id} was announced, and nobody was answered that it is accepted"));
            }
            match told.state.as_str() {
                "ready" if !told.must_go => (),
                "ready" => self.wrong.push(format!("{id} was to be destroyed, and is Ready")),
                "failed" | "destroyed" => (),
                state => self.wrong.push(format!("the last that was heard of {id} ({}) is {state:?}", told.kind)),
            }
        }
        let lost: Vec<_> = self.known.committed.difference(&self.known.announced).cloned().collect();
        if !lost.is_empty() {
            self.wrong.push(format!("nobody was told of {lost:?}"));
        }
        for command in self.asks.iter().filter_map(|it| it.sent.as_ref()).map(|it| key(it)) {
            if !self.known.heard.contains(&command) {
                self.wrong.push(format!("message {command} was never answered"));
            }
        }
    }
}

/// The life of an operation, with what goes through a state without resting there.
fn may_follow(from: &str, to: &str) -> bool {
    match from {
        "" => ["allocated", "copying"].contains(&to),
        "allocated" => ["copying", "failed"].contains(&to),
        "copying" => ["ready", "destroying", "failed"].contains(&to),
        "ready" => ["destroying", "destroyed"].contains(&to),
        "destroying" => ["failed", "destroyed"].contains(&to),
        _ => false,
    }
}
