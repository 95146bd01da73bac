//! The broker: messages take their time, overtake each other, come twice, are lost with the whole broker, and come
//! again when whoever had them died.

use super::{
    choices::{At, Focus},
    handing::REPLIES,
    judge::key,
    schedule::{Happening, Simulation},
};
use longshore_engine::journal::Item;
use longshore_schema::{
    step::{Pace, StepMessage},
    tables::outbox,
    wire::{CloudEvent, Control, Reply, names},
};
use std::{collections::BTreeMap, sync::Arc};

/// What is delivered and not acknowledged by engines.
#[derive(Debug, Default)]
pub(super) struct Broker {
    deliveries: u64,
    /// By delivery: to which engine, and what.
    pub(super) unsettled: BTreeMap<u64, (usize, Item)>,
    /// How often the broker lost everything.
    pub(super) wipes: u32,
}

impl Broker {
    pub(super) fn deliver(&mut self, engine: usize, item: Item) -> u64 {
        self.deliveries += 1;
        self.unsettled.insert(self.deliveries, (engine, item));
        self.deliveries
    }
}

impl Simulation<'_> {
    /// A message of an engine reaches the broker.
    pub(super) fn route(&mut self, row: &outbox::Model) {
        match row.exchange.as_str() {
            names::STEPS => {
                let message: StepMessage = serde_json::from_str(&row.body).expect("a step message");
                let message = Arc::new(message);
                self.soon(Happening::Step(message.clone(), false, row.expires_at));
                // A short step is published once, so it comes twice only when it is delivered again.
                if let Pace::Long { .. } = message.pace
                    && let Some(fault) = self.choices.fault("step twice", 10)
                {
                    self.say(|| format!("fault {fault}: a step comes twice"));
                    let again = self.choices.one_in(At::Fault, 2);
                    self.soon(Happening::Step(message, again, row.expires_at));
                }
            }
            names::CONTROL => self.route_control(row),
            names::EVENTS => {
                // Progress goes the same way, and nobody counts on it.
                let Ok(event) = serde_json::from_str::<CloudEvent>(&row.body) else { return };
                if let Some(fault) = self.choices.fault("event twice", 20) {
                    self.say(|| format!("fault {fault}: an event comes twice"));
                    self.soon(Happening::Event(event.id.clone()));
                }
                self.soon(Happening::Event(event.id));
            }
            "" if row.routing_key == REPLIES => self.route_reply(row),
            other => self.wrong.push(format!("a message goes to {other:?}")),
        }
    }

    fn route_reply(&mut self, row: &outbox::Model) {
        let reply: Reply = serde_json::from_str(&row.body).expect("a reply");
        let message_id = row.properties["correlation_id"].as_str().unwrap_or_default().to_owned();
        if let Some(fault) = self.choices.fault("reply lost", 6) {
            self.say(|| format!("fault {fault}: the reply to {message_id} is lost"));
            let which = self.asks.iter().position(|it| it.sent.as_ref().is_some_and(|it| key(it) == message_id));
            return which.into_iter().for_each(|it| self.will_ask_again(it));
        }
        if let Some(fault) = self.choices.fault("reply twice", 12) {
            self.say(|| format!("fault {fault}: the reply to {message_id} comes twice"));
            self.soon(Happening::Answer(message_id.clone(), Box::new(reply.clone())));
        }
        self.soon(Happening::Answer(message_id, Box::new(reply)));
    }

    fn route_control(&mut self, row: &outbox::Model) {
        let Some(worker) = self.workers.iter().position(|it| it.id == row.routing_key) else { return };
        let control: Control = serde_json::from_str(&row.body).expect("a control message");
        let control = Arc::new(control);
        if let Some(fault) = self.choices.fault("word lost", 12) {
            self.say(|| format!("fault {fault}: a word is lost: {control:?}"));
            return;
        }
        // The queue is the process's own: what comes to a dead one is lost.
        let process = self.workers[worker].process;
        let mut delay = self.choices.delay();
        if self.choices.is_about(Focus::Starts) && self.choices.one_in(At::Delay, 2) {
            delay += 1_000 * self.choices.below(At::Delay, 5_000) as i64;
        }
        self.after(delay, Happening::Word(worker, process, control.clone()));
        if let Some(fault) = self.choices.fault("word twice", 20) {
            self.say(|| format!("fault {fault}: a word comes twice"));
            self.soon(Happening::Word(worker, process, control));
        }
    }

    /// Everything that is on its way, or waits, is gone.
    pub(super) fn wipe(&mut self, fault: u32) {
        self.say(|| format!("fault {fault}: the broker loses everything"));
        self.broker.wipes += 1;
        self.known.count("wipe");
        // An event that the broker had confirmed is lost with it: nobody promised more.
        let had = self.happenings.values().filter_map(|it| if let Happening::Event(id) = it { Some(id.clone()) } else { None });
        self.known.announced.extend(had);
        self.happenings.retain(|_, it| {
            let travels = matches!(it, Happening::Inbound(..) | Happening::Step(..) | Happening::Word(..));
            !(travels || matches!(it, Happening::Answer(..) | Happening::Event(_)))
        });
        self.broker.unsettled.clear();
        for engine in &mut self.engines {
            engine.inbox.clear();
        }
        for which in 0..self.asks.len() {
            if self.asks[which].sent.is_some() {
                self.will_ask_again(which);
            }
        }
        for worker in 0..self.workers.len() {
            self.link_lost(worker);
        }
    }
}
