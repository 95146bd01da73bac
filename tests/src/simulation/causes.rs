//! What an operation's end must come from: a failure has a cause that was put in, and what is Ready was made by steps that
//! said so, and is what was asked for.

use super::{
    job::{EXTENT, MARKER_BYTES, ROOT_BYTES, SIZE},
    known::{Told, is_object},
    schedule::Simulation,
    world::CONTENTS,
};
use longshore_engine::{
    journal::Item,
    machine::{Event, PATIENCE},
};
use longshore_schema::{
    bound::bound,
    fault::{Fault, code},
    ids::OperationId,
    step::{Attempt, Step, Way},
    steps::{object, sweep, volume},
    wire::{Outcome, Report},
};
use std::collections::BTreeSet;

/// The engine asks after so many failures in a row; a few more, since what is reported late may count here and not there.
const ASKS_AFTER: usize = PATIENCE as usize / 4 + 5;

fn is_full(code: &str) -> bool {
    [code::POOL_FULL, code::STORE_FULL].contains(&code)
}

impl Simulation<'_> {
    /// What a commit absorbed beside commands.
    pub(super) fn observe_item(&mut self, item: &Item) {
        match item {
            Item::Report(report) => {
                if let Report::Done { attempt, worker: _, result } = &**report {
                    self.observe_result(*attempt, result);
                }
            }
            Item::Due { operation, event: Event::LeaseLost { attempt } } => {
                let Some(told) = self.known.told.get_mut(operation) else { return };
                told.failed.entry(attempt.seq).or_default().insert(attempt.n);
                if attempt.way != Way::Do {
                    told.needed.entry(attempt.seq).or_default().insert(attempt.n);
                }
                told.running = None;
            }
            Item::Command(_) | Item::Due { .. } | Item::Wake(_) | Item::Refill(_) => (),
        }
    }

    /// The first report about the attempt that was sent last counts; any other one may be stale.
    fn observe_result(&mut self, attempt: Attempt, result: &Outcome) {
        let now = self.now;
        let Some(told) = self.known.told.get_mut(&attempt.operation) else { return };
        if told.running.as_ref().is_some_and(|(running, _)| *running == attempt) {
            told.running = None;
        }
        let name = told.sent.as_ref().filter(|(last, _)| *last == attempt && !told.ended).map(|(_, name)| name.clone());
        match (result, name) {
            (Outcome::Output(output), Some(name)) => {
                let says_so = match attempt.way {
                    Way::Do => true,
                    Way::Probe => !output.is_null(),
                    Way::Undo => false,
                };
                told.needed.remove(&attempt.seq);
                if says_so {
                    told.succeeded.insert(name);
                }
                told.ended = true;
            }
            (Outcome::Output(_), None) => (),
            (Outcome::Fault(fault), name) => {
                let failed = told.failed.entry(attempt.seq).or_default();
                failed.insert(attempt.n);
                let failures = failed.len();
                if attempt.way == Way::Do {
                    told.faults.insert((fault.code.clone(), fault.is_transient()));
                } else {
                    told.needed.entry(attempt.seq).or_default().insert(attempt.n);
                }
                if name.is_some() {
                    let again = told.stopped.is_none() && told.asked.as_ref().is_some_and(|it| now < it.deadline);
                    let again = again && told.is_at_work() && fault.is_transient() && !is_full(&fault.code);
                    told.rests = !told.is_over() && (attempt.way != Way::Do || (again && failures < PATIENCE as usize));
                    told.ended = true;
                }
            }
        }
    }

    /// What can't be given up and fails again and again asks for attention.
    pub(super) fn check_attention(&mut self) {
        let fails = |told: &Told| {
            let last = told.sent.as_ref().filter(|(attempt, _)| attempt.way != Way::Do);
            let failed = last.and_then(|(attempt, _)| told.needed.get(&attempt.seq)).map_or(0, BTreeSet::len);
            ["copying", "destroying"].contains(&told.state.as_str()) && failed >= ASKS_AFTER
        };
        let failing: Vec<OperationId> = self.known.told.iter().filter(|(_, it)| fails(it)).map(|(id, _)| *id).collect();
        if failing.is_empty() {
            return;
        }
        let asking = self.place.sqlite.sums("SELECT id, 1 FROM operation WHERE needs_attention").expect("who needs attention");
        for id in failing.iter().filter(|it| !asking.contains_key(&it.0)) {
            self.wrong.push(format!("{id} fails again and again, and asks for no attention"));
        }
        self.known.count("attention");
    }

    /// A failure comes from something that was put in here.
    pub(super) fn check_failure(&mut self, id: OperationId, fault: &Fault) {
        let told = &self.known.told[&id];
        // One that nobody asked for is found at the end.
        let Some(asked) = &told.asked else { return };
        let code = fault.code.as_str();
        let was_reported = told.faults.contains(&(fault.code.clone(), fault.is_transient()));
        let patience = told.failed.values().any(|it| it.len() >= PATIENCE as usize);
        let has_cause = match code {
            code::CANCELLED => told.stopped.is_some(),
            code::DEADLINE_PASSED => self.now >= asked.deadline,
            code::ABANDONED => self.world.abandoned.contains(&id),
            _ if !fault.is_transient() => was_reported,
            _ if patience => true,
            _ => {
                let store = asked.place().as_str().unwrap_or_default();
                let granted = is_object(&asked.kind) && code == code::STORE_FULL && !self.store_has_room_for_all(store, 0);
                is_full(code) && asked.refuses() && (was_reported || granted)
            }
        };
        if !has_cause {
            self.wrong.push(format!("{id} failed without a cause: {fault}"));
        }
    }

    /// Whether a store has room at once for all objects that it has or may get, and for so many more, whatever they need of it.
    pub(super) fn store_has_room_for_all(&self, store: &str, more: u64) -> bool {
        let most = bound(SIZE, SIZE, EXTENT) + MARKER_BYTES;
        let world = &self.world;
        let objects = self.known.told.iter().filter(|(id, _)| world.is_in(**id, store));
        let needs = objects.map(|(id, told)| {
            let is_settled = told.lately.iter().all(|it| ["ready", "destroying", "destroyed"].contains(&it.as_str()));
            if told.was_only("failed") && !world.abandoned.contains(id) {
                0
            } else if is_settled && !told.lately.is_empty() && world.were_ready.contains(id) {
                world.put.get(id).copied().unwrap_or(0) + ROOT_BYTES + MARKER_BYTES
            } else {
                most
            }
        });
        let needs: u64 = needs.sum::<u64>() + more * most;
        let limit = format!("SELECT CAST(total * overcommit * threshold AS INTEGER) FROM place WHERE name = '{store}'");
        let [limit] = self.place.sqlite.numbers::<1>(&limit).expect("the store's limit");
        needs <= limit.unwrap_or(0).unsigned_abs()
    }

    /// What became Ready was made by its steps, and is what its command asked for.
    pub(super) fn check_made(&mut self, id: OperationId) {
        let told = &self.known.told[&id];
        let (Some(asked), Some(object)) = (&told.asked, &told.object) else { return };
        let is_done = |name: &str| told.succeeded.contains(name);
        let (made, same): (bool, &[(&str, &str)]) = match asked.kind.as_str() {
            "backup-snapshot" => {
                (is_done(<object::Commit as Step>::NAME) || is_done(<object::Probe as Step>::NAME), &[("store", "store")])
            }
            "copy-object" => (
                is_done(<object::Commit as Step>::NAME) || is_done(<object::Probe as Step>::NAME),
                &[("store", "store"), ("from", "from")],
            ),
            "create-volume" => (
                is_done(<volume::Write as Step>::NAME) && is_done(<volume::Publish as Step>::NAME),
                &[("volume", "volume"), ("from", "from"), ("pool", "pool")],
            ),
            "verify-object" => (is_done(<object::Verify as Step>::NAME), &[("object", "object")]),
            _ => (is_done(<sweep::Delete as Step>::NAME), &[("store", "store")]),
        };
        let other = same.iter().find(|(made, wanted)| object[made] != asked.body[wanted]);
        let mut wrong = vec![];
        if !made {
            wrong.push(format!("{id} is Ready, and only these of its steps succeeded: {:?}", told.succeeded));
        }
        if let Some((field, _)) = other {
            wrong.push(format!("{id} is Ready with another {field} than was asked for: {object} for {}", asked.body));
        }
        let root = self.world.precious.get(&id).filter(|_| is_object(&asked.kind));
        let is_other = |content: u64| match asked.kind == "copy-object" {
            true => content != asked.content,
            false => content / CONTENTS != asked.content / CONTENTS || content < asked.content,
        };
        // What is missing of it is told elsewhere.
        if let Some(content) = root.and_then(|root| self.world.read(id, root).ok()).filter(|it| is_other(*it)) {
            wrong.push(format!("{id} holds {content}, and its source held {} when it was asked for", asked.content));
        }
        self.wrong.extend(wrong);
    }
}
