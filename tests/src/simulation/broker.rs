//! The broker: messages take their time, overtake each other, come twice, are lost with the whole broker, and come
//! again when whoever had them died.

use super::{
    choices::At,
    schedule::{Happening, Simulation},
};
use longshore_engine::journal::Item;
use longshore_schema::{
    step::{Pace, StepMessage},
    tables::outbox,
    wire::{CloudEvent, Control, names},
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
                if let Ok(event) = serde_json::from_str::<CloudEvent>(&row.body) {
                    self.known.announced.insert(event.id);
                }
            }
            other => self.wrong.push(format!("a message goes to {other:?}")),
        }
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
        self.soon(Happening::Word(worker, process, control.clone()));
        if let Some(fault) = self.choices.fault("word twice", 20) {
            self.say(|| format!("fault {fault}: a word comes twice"));
            self.soon(Happening::Word(worker, process, control));
        }
    }

    /// Everything that is on its way, or waits, is gone.
    pub(super) fn wipe(&mut self, fault: u32) {
        self.say(|| format!("fault {fault}: the broker loses everything"));
        self.broker.wipes += 1;
        self.happenings.retain(|_, it| !matches!(it, Happening::Inbound(..) | Happening::Step(..) | Happening::Word(..)));
        self.broker.unsettled.clear();
        for engine in &mut self.engines {
            engine.inbox.clear();
        }
        // The control plane got no reply, and asks again.
        for which in 0..self.asks.len() {
            if let Some(command) = self.asks[which].sent.clone()
                && !self.known.replies.contains_key(&command.message_id)
            {
                self.soon(Happening::Inbound(Item::Command(command), false));
            }
        }
        for worker in 0..self.workers.len() {
            self.link_lost(worker);
        }
    }
}
