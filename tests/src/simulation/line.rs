//! Who waits for space, and that nobody overtakes them.

use super::schedule::Simulation;
use longshore_engine::journal::Item;
use longshore_schema::ids::OperationId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Who waits, and since when it would wait if all had the same priority: whoever has the least comes first.
const WAITING: &str = "SELECT id, waiting_since - priority * 600000000 FROM operation WHERE waiting_place IS NOT NULL";
/// Who comes first at a place that has room.
const UNCALLED: &str = "SELECT o.id, 1 FROM operation o JOIN place p ON p.name = o.waiting_place \
    WHERE o.waiting_bytes <= CAST(p.total * p.overcommit * p.threshold AS INTEGER) - p.reserved - p.used \
    AND NOT EXISTS (SELECT 1 FROM operation f WHERE f.waiting_place = o.waiting_place \
    AND (f.waiting_since - f.priority * 600000000, f.id) < (o.waiting_since - o.priority * 600000000, o.id))";
/// What a step of priority is worth, microseconds.
const STEP_US: i64 = 600_000_000;

/// Who waited and who had something after the last commit.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<Uuid, u64>,
    booked: BTreeMap<Uuid, u64>,
}

impl Simulation<'_> {
    /// Nobody who comes first waits for space that is there, and whoever was granted space in this commit came before all who waited
    /// for the same place and still wait. Who came in this commit and waits may have come after a newcomer, and after a call of
    /// the clock, but not after those who were called when all had come.
    pub(super) fn check_line(&mut self, booked: BTreeMap<Uuid, u64>, items: &[Item]) {
        let waiting = self.place.sqlite.sums(WAITING).expect("who waits");
        let uncalled = if waiting.is_empty() { BTreeMap::new() } else { self.place.sqlite.sums(UNCALLED).expect("who is first") };
        if !uncalled.is_empty() {
            self.wrong.push(format!("these wait for space that is there: {:?}", uncalled.keys()));
        }
        let clock_called = items.iter().any(|it| matches!(it, Item::Wake(_)));
        let before = std::mem::replace(&mut self.known.line, Line { waiting, booked });
        let now = &self.known.line;
        let asked = |id: &Uuid| self.known.told.get(&OperationId(*id)).and_then(|it| it.asked.as_ref());
        let still: Vec<(&Uuid, &u64)> = before.waiting.iter().filter(|(id, _)| now.waiting.contains_key(*id)).collect();
        let granted = now.booked.keys().filter(|it| !before.booked.contains_key(*it));
        let mut wrong = vec![];
        for id in granted {
            let Some(asked_for) = asked(id) else { continue };
            let newcomer = (self.now - asked_for.priority * STEP_US).unsigned_abs();
            let waited = before.waiting.get(id).copied();
            let rank = waited.unwrap_or(newcomer);
            let line = if waited.is_some() && !clock_called { now.waiting.iter().collect() } else { still.clone() };
            let same_place = |other: &Uuid| asked(other).is_some_and(|it| it.place() == asked_for.place());
            let ahead = line.iter().filter(|(other, since)| **since < rank && same_place(other));
            wrong.extend(ahead.map(|(other, _)| format!("{id} is granted space, and {other} waits and comes first")));
        }
        self.wrong.extend(wrong);
    }
}
