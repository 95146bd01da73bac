//! What a commit sends, beside what it says: steps in their form, in time and for what is still wanted; words to workers; and
//! what a sweep is sent with.

use super::schedule::Simulation;
use longshore_engine::journal::Item;
use longshore_schema::{
    ids::{OperationId, PackId},
    step::{Step, StepMessage, Way},
    steps::sweep,
    tables::outbox,
    wire::{Control, EventData, Report, WorkerKind, names},
};

/// An operation may go on for so long after its deadline, microseconds: some engine looks at the clock by then.
const SLACK_US: i64 = 60_000_000;
/// As much longer for each fault: an engine that died is away for a minute.
const AWAY_US: i64 = 60_000_000;
/// What left a queue makes no room beyond its depth later than this, microseconds (`journal/outflow.rs`).
const FORGOTTEN_US: i64 = 5_000_000;

/// How deep the queues are.
#[derive(Debug, Default)]
pub(super) struct Depths {
    deepest: i64,
    /// When steps may have left one, microseconds.
    left_at: i64,
}

impl Simulation<'_> {
    /// Words that a worker was told in this commit.
    pub(super) fn observe_words(&mut self, passing: &[outbox::Model], stops: &[OperationId]) {
        let words = passing.iter().filter(|it| it.exchange == names::CONTROL);
        let words = words.filter_map(|it| Some((&it.routing_key, serde_json::from_str::<Control>(&it.body).ok()?)));
        let words: Vec<(&String, Control)> = words.collect();
        for id in stops {
            let told = &self.known.told[id];
            let Some((attempt, worker)) = told.ran.as_ref().filter(|_| told.may_still_run) else { continue };
            let is_told = |(to, word): &(&String, Control)| *to == worker && *word == Control::Stop { attempt: *attempt };
            if !words.iter().any(is_told) {
                self.wrong.push(format!("{id} is to stop, and {worker} isn't told to stop {attempt:?}"));
            }
        }
        for (worker, word) in words {
            if let Control::Go { attempt, .. } = word
                && attempt.way == Way::Do
                && let Some(told) = self.known.told.get_mut(&attempt.operation)
                // Its report may be in the same commit.
                && !told.ended
                && told.sent.as_ref().is_some_and(|(last, _)| *last == attempt)
            {
                told.running = Some((attempt, worker.clone()));
            }
        }
    }

    /// The message of a step: where it goes, how long it is worth anything, and that it is wanted.
    pub(super) fn check_step(&mut self, row: &outbox::Model, message: &StepMessage) {
        let attempt = message.attempt;
        let asked = self.known.told.get(&attempt.operation).and_then(|it| it.asked.as_ref());
        let priority = asked.map(|it| it.priority);
        let deadline = asked.map_or(i64::MAX, |it| it.deadline);
        let wrong = [
            (row.expires_at != Some(message.start_before.0), "expires at another time than it may start by"),
            (message.start_before.0 <= self.now, "may never start"),
            (!row.mandatory, "may get lost unseen"),
            (row.routing_key != names::zone_queue("z1", WorkerKind::Kvm.as_str()), "goes to another queue than planned"),
            (row.properties["priority"].as_i64() != priority, "has another priority than its command"),
            (
                attempt.way == Way::Do && self.now > self.latest_after(deadline),
                "is sent long after the deadline of its operation",
            ),
        ];
        for (_, what) in wrong.iter().filter(|(is_wrong, _)| *is_wrong) {
            self.wrong.push(format!("{} {attempt:?} to {} {what}", message.step, row.routing_key));
        }
        if message.step == <sweep::Delete as Step>::NAME {
            self.check_grace(message);
        }
    }

    fn latest_after(&self, deadline: i64) -> i64 {
        deadline.saturating_add(SLACK_US + AWAY_US * i64::from(self.choices.faults()))
    }

    /// What is past its deadline isn't gone on with, unless its commit was sent.
    pub(super) fn check_deadlines(&mut self) {
        for (id, told) in &self.known.told {
            let deadline = told.asked.as_ref().map_or(i64::MAX, |it| it.deadline);
            let late = told.is_at_work() && !told.may_be_committed && self.now > self.latest_after(deadline);
            if late {
                self.wrong.push(format!(
                    "{id} is {}, and its deadline was {} s ago",
                    told.state,
                    (self.now - deadline) / 1_000_000
                ));
            }
        }
    }

    /// What a sweep is to remove wasn't needed for the whole grace.
    fn check_grace(&mut self, message: &StepMessage) {
        let chosen = serde_json::from_value::<sweep::Chosen>(message.input.clone()).expect("what a sweep removes");
        let grace_s = self.grace_s();
        let since = self.now - grace_s * 1_000_000;
        let (world, is_needed) = (&self.world, self.world.needed());
        let early = |it: &&PackId| is_needed.contains(*it) || world.needed_until.get(*it).is_some_and(|until| *until > since);
        let early: Vec<_> = chosen.packs.iter().filter(early).map(ToString::to_string).collect();
        if !early.is_empty() {
            self.wrong.push(format!("a sweep takes packs that were needed less than {grace_s} s ago: {}", early.join(", ")));
        }
    }

    /// The message of an event: what is said of it beside what happened.
    pub(super) fn check_event(&mut self, row: &outbox::Model, kind: &str, data: &EventData) {
        let key = format!("{}.{}", data.kind, data.to);
        if row.routing_key != key
            || data.zone != "z1"
            || data.tenant != "default"
            || data.at.0 != self.now
            || kind != event_type(data)
        {
            self.wrong.push(format!("the event {kind} goes to {} and says {data:?}", row.routing_key));
        }
    }

    /// A queue of the broker holds no more than it is configured to, unless steps left it just before.
    pub(super) fn check_depths(&mut self, items: &[Item]) {
        let [deepest] = self.place.sqlite.numbers::<1>("SELECT max(unstarted) FROM queue").expect("a number");
        let (deepest, most) = (deepest.unwrap_or(0), i64::from(self.config.queue_depth));
        let may_leave = |it: &Item| match it {
            Item::Report(report) => !matches!(**report, Report::Announce(_) | Report::Renew { .. }),
            Item::Command(command) => ["cancel", "destroy", "abandon"].contains(&command.kind.as_str()),
            Item::Due { .. } => true,
            Item::Wake(_) | Item::Refill(_) => false,
        };
        let depths = &mut self.known.depths;
        if items.iter().any(may_leave) {
            depths.left_at = self.now;
        }
        let grew = deepest > std::mem::replace(&mut depths.deepest, deepest);
        if grew && deepest > most && self.now - depths.left_at > FORGOTTEN_US {
            self.wrong.push(format!("{deepest} unstarted steps are in a queue that takes {most}, and none left it"));
        }
    }
}

fn event_type(data: &EventData) -> String {
    format!("io.longshore.operation.{}", data.to)
}
