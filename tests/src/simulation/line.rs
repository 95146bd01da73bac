//! Who waits for space, and that nobody overtakes them.

use super::schedule::Simulation;
use longshore_schema::ids::OperationId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Who waits, and since when it would wait if all had the same priority: whoever has the least comes first.
const WAITING: &str = "SELECT id, waiting_since - priority * 600000000 FROM operation WHERE waiting_place IS NOT NULL";
/// What a step of priority is worth, microseconds.
const STEP_US: i64 = 600_000_000;

/// Who waited and who had something after the last commit.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<Uuid, u64>,
    booked: BTreeMap<Uuid, u64>,
}

impl Simulation<'_> {
    /// Whoever was granted space in this commit came before all who waited for the same place and still wait.
    pub(super) fn check_line(&mut self, booked: BTreeMap<Uuid, u64>) {
        let waiting = self.place.sqlite.sums(WAITING).expect("who waits");
        let before = std::mem::replace(&mut self.known.line, Line { waiting, booked });
        let now = &self.known.line;
        let asked = |id: &Uuid| self.known.told.get(&OperationId(*id)).and_then(|it| it.asked.as_ref());
        let still: Vec<(&Uuid, &u64)> = before.waiting.iter().filter(|(id, _)| now.waiting.contains_key(*id)).collect();
        let granted = now.booked.keys().filter(|it| !before.booked.contains_key(*it));
        let mut wrong = vec![];
        for id in granted {
            let Some(asked_for) = asked(id) else { continue };
            let newcomer = (self.now - asked_for.priority * STEP_US).unsigned_abs();
            let rank = before.waiting.get(id).copied().unwrap_or(newcomer);
            // Backups wait for the store, volumes for the pool.
            let same_place = |other: &Uuid| asked(other).is_some_and(|it| it.kind == asked_for.kind);
            let ahead = still.iter().filter(|(other, since)| **since < rank && same_place(*other));
            wrong.extend(ahead.map(|(other, _)| format!("{id} is granted space, and {other} waits and comes first")));
        }
        self.wrong.extend(wrong);
    }
}
