//! What is known of operations by what everybody was told.

use super::{judge::Asked, line::Line, sent::Depths};
use longshore_schema::{
    ids::OperationId,
    step::{Attempt, Way},
    wire::Reply,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the outside was told by what was committed.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In the order of their acceptance.
    pub(super) accepted: Vec<OperationId>,
    /// By what names a command in answers.
    pub(super) replies: BTreeMap<String, Reply>,
    /// By user and message id: the command that had it first, and its answer.
    pub(super) ids: BTreeMap<(String, String), ((String, Value), Reply)>,
    /// What names the commands whose answer arrived.
    pub(super) heard: BTreeSet<String>,
    /// Operations of which something was asked and that weren't looked at since.
    pub(super) asked_about: Vec<OperationId>,
    /// Of each operation.
    pub(super) told: BTreeMap<OperationId, Told>,
    /// Ids of events that the broker has.
    pub(super) announced: BTreeSet<String>,
    /// Ids of events that were committed.
    pub(super) committed: BTreeSet<String>,
    /// How often something happened: a schedule in which nothing does shows nothing.
    pub(super) mix: BTreeMap<String, u64>,
    /// Who waits for space.
    pub(super) line: Line,
    /// How deep the queues are.
    pub(super) depths: Depths,
}

/// What is known of one operation.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) kind: String,
    /// The last event's; empty before the first.
    pub(super) state: String,
    pub(super) seq: i64,
    pub(super) object: Option<Value>,
    /// What was asked for.
    pub(super) asked: Option<Asked>,
    /// Its state before this commit, and those in it.
    pub(super) lately: Vec<String>,
    /// The attempt that was sent last, and its step's name.
    pub(super) sent: Option<(Attempt, String)>,
    /// It was reported.
    pub(super) ended: bool,
    /// It failed, and is to be tried again.
    pub(super) rests: bool,
    /// That was so before this commit.
    pub(super) rested: bool,
    /// The long step that a worker was told to start, and which worker.
    pub(super) running: Option<(Attempt, String)>,
    /// The same before this commit.
    pub(super) ran: Option<(Attempt, String)>,
    /// Nothing was heard of it since, when it was to stop.
    pub(super) may_still_run: bool,
    /// Numbers of attempts that failed, by step.
    pub(super) failed: BTreeMap<u16, BTreeSet<u32>>,
    /// The same of undos and probes, since the last one succeeded or somebody asked to try again.
    pub(super) needed: BTreeMap<u16, BTreeSet<u32>>,
    /// Codes of faults with which its steps failed, and whether they were transient.
    pub(super) faults: BTreeSet<(String, bool)>,
    /// Names of steps that succeeded.
    pub(super) succeeded: BTreeSet<String>,
    /// Its commit was sent, so only the store knows whether it is there.
    pub(super) may_be_committed: bool,
    /// When a `cancel` or a `destroy` was accepted first, microseconds.
    pub(super) stopped: Option<i64>,
    /// It was, when nothing was committed for sure.
    pub(super) must_not_be_ready: bool,
    /// It was asked whether its commit took effect, before this commit.
    pub(super) was_probed: bool,
    /// A `destroy` was accepted.
    pub(super) must_go: bool,
    /// It was, before this commit.
    pub(super) was_to_go: bool,
}

impl Told {
    /// Whether somebody may be at work on it.
    pub(super) fn is_at_work(&self) -> bool {
        ["", "allocated", "copying"].contains(&self.state.as_str())
    }

    /// Whether it is asked, or will be asked again, if its commit took effect.
    pub(super) fn is_probed(&self) -> bool {
        let probes = self.sent.as_ref().is_some_and(|(attempt, _)| attempt.way == Way::Probe);
        probes && self.is_at_work() && (!self.ended || self.rests)
    }

    /// How long ago it was to stop, microseconds.
    pub(super) fn should_rest_since(&self, now: i64) -> i64 {
        self.stopped.map_or(0, |at| now - at)
    }

    /// Whether it is over, for good.
    pub(super) fn is_over(&self) -> bool {
        ["failed", "destroyed"].contains(&self.state.as_str())
    }
}

/// Whether what such operations make is an object in a store.
pub(super) fn is_object(kind: &str) -> bool {
    ["backup-snapshot", "copy-object"].contains(&kind)
}

impl Known {
    /// Whether it is an object that is Ready.
    pub(super) fn is_object(&self, id: OperationId) -> bool {
        self.told.get(&id).is_some_and(|it| is_object(&it.kind) && it.state == "ready")
    }

    /// Whether it is over, for good.
    pub(super) fn is_over(&self, id: OperationId) -> bool {
        self.told.get(&id).is_some_and(Told::is_over)
    }

    /// Operations that aren't at their end, or all if there are none: there is more to be asked of them.
    pub(super) fn open_or_all(&self) -> Vec<OperationId> {
        let is_open = |it: &&OperationId| self.told.get(it).is_none_or(|it| !(it.state == "ready" || it.is_over()));
        let open: Vec<OperationId> = self.accepted.iter().filter(is_open).copied().collect();
        if open.is_empty() { self.accepted.clone() } else { open }
    }

    /// How many volumes are there.
    pub(super) fn volumes(&self) -> usize {
        self.told.values().filter(|it| it.kind == "create-volume" && it.state == "ready").count()
    }

    /// What follows is said by another commit.
    pub(super) fn next_commit(&mut self) {
        for told in self.told.values_mut() {
            told.lately = vec![told.state.clone()];
            (told.rested, told.was_to_go) = (told.rests, told.must_go);
            (told.ran, told.may_still_run) = (told.running.clone(), false);
            told.was_probed = told.is_probed();
        }
    }

    /// Something happened.
    pub(super) fn count(&mut self, what: &str) {
        *self.mix.entry(what.to_owned()).or_default() += 1;
    }

    /// Whether what a command asked for is there.
    pub(super) fn is_done(&self, command: &str) -> bool {
        let operation = self.replies.get(command).and_then(|it| it.operation);
        operation.and_then(|it| self.told.get(&it)).is_some_and(|it| it.state == "ready")
    }
}
