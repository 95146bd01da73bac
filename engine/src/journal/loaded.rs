//! An operation in a unit of work: its row, the machine's view of it, and how both stand to the database: what was read is
//! what its update is guarded by.

use super::rows::{self, Delivery};
use crate::{
    database::Failed,
    machine::{Operation, StepState},
    plan::Work,
};
use longshore_schema::tables::{operation, step};
use serde_json::Value;
use std::collections::BTreeSet;

/// An operation in a unit of work.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its row, without the plan if it was read: the machine's operation has that.
    pub(super) row: operation::Model,
    pub(super) operation: Operation,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) known: Known,
}

/// How what is known of an operation stands to the database.
///
/// ```text
/// Read, Remembered -- change ------> Changed
/// New, Changed ------ written -----> Read          at the end of the transaction
/// Read, Remembered -- remembered --> Remembered    by a later transaction, which takes it from the memory
/// Remembered -------- read again --> Read
/// ```
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    /// Made in this transaction: its rows are inserted at the end.
    New,
    /// As this transaction read it, or wrote it.
    Read(Read),
    /// As an earlier transaction left it: another engine may know better.
    Remembered(Read),
    /// It differs from what was read or remembered: its rows are updated at the end, guarded by that.
    Changed(Read),
}

/// What an operation's update is guarded by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    pub(super) version: i64,
    pub(super) ready: bool,
    pub(super) holders: i32,
    pub(super) steps: Vec<step::Model>,
}

impl Loaded {
    /// From its rows.
    pub(super) fn from_rows(mut row: operation::Model, steps: Vec<step::Model>) -> anyhow::Result<Loaded> {
        let operation = rows::operation_of(&row, &steps)?;
        let mut deliveries = vec![Delivery::default(); operation.steps.len()];
        for step in &steps {
            deliveries[usize::try_from(step.seq).unwrap_or(0)] = rows::delivery_of(step);
        }
        row.plan = Value::Null;
        let read = Read::of(&row, steps);
        Ok(Loaded { row, operation, deliveries, known: Known::Read(read) })
    }

    /// A new one, before its first event.
    pub(super) fn new(row: operation::Model, operation: Operation) -> Loaded {
        let deliveries = vec![Delivery::default(); operation.steps.len()];
        Loaded { row, operation, deliveries, known: Known::New }
    }

    /// It, as a later transaction takes it; `None` if it was never written.
    pub(super) fn remembered(self) -> Option<Loaded> {
        let known = self.known.remembered()?;
        Some(Loaded { known, ..self })
    }

    /// Its rows have to be written from now on.
    pub(super) fn change(&mut self) {
        let known = std::mem::replace(&mut self.known, Known::New);
        self.known = known.changed();
    }

    /// The operation.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Its row; the machine's columns are written at the end of the unit.
    pub fn row(&self) -> &operation::Model {
        &self.row
    }

    /// One hold on it was taken, in this transaction.
    pub(super) fn take_hold(&mut self) {
        self.row.holders += 1;
        if let Some(read) = self.known.read_mut() {
            read.holders += 1;
        }
    }

    /// One hold on it went, in this transaction.
    pub(super) fn let_go(&mut self) {
        self.row.holders -= 1;
        if let Some(read) = self.known.read_mut() {
            read.holders -= 1;
        }
    }

    /// Steps that are in a queue of the broker and not known to be started.
    pub(super) fn queued(&self) -> BTreeSet<(usize, u32, &str)> {
        let steps = self.operation.steps.iter().zip(&self.deliveries).zip(&self.operation.plan.steps).enumerate();
        let queued = steps.filter_map(|(seq, ((track, delivery), planned))| match (&track.state, &planned.work) {
            (StepState::Sent { .. }, Work::Worker(call)) if delivery.start_before.is_some() => {
                Some((seq, track.n, call.queue.as_str()))
            }
            _ => None,
        });
        queued.collect()
    }

    /// What was known about an attempt ends with it.
    pub(super) fn settle_deliveries(&mut self, before: &Operation) {
        for (seq, (track, old)) in self.operation.steps.iter().zip(&before.steps).enumerate() {
            let delivery = &mut self.deliveries[seq];
            if track.n != old.n {
                *delivery = Delivery::default();
            } else if track.state != old.state {
                delivery.due_at = None;
                if !track.state.is_out() {
                    delivery.start_before = None;
                }
            }
        }
    }

    /// Rows of all steps that ever left `Planned`.
    pub(super) fn step_rows(&self) -> Result<Vec<step::Model>, Failed> {
        let read = |seq: usize| self.known.read().is_some_and(|it| it.steps.iter().any(|it| usize::try_from(it.seq) == Ok(seq)));
        let known =
            (0..self.operation.steps.len()).filter(|&seq| self.operation.steps[seq].state != StepState::Planned || read(seq));
        Ok(known
            .map(|seq| rows::step_row(&self.operation, seq, &self.deliveries[seq], self.row.priority))
            .collect::<anyhow::Result<_>>()?)
    }

    /// Its rows were written: from now on this is what was read.
    pub(super) fn written(&mut self, steps: Vec<step::Model>) {
        self.row.plan = Value::Null;
        self.known = Known::Read(Read::of(&self.row, steps));
    }
}

impl Known {
    /// What its update is guarded by; `None` if it is to be inserted.
    pub(super) fn read(&self) -> Option<&Read> {
        match self {
            Known::New => None,
            Known::Read(read) | Known::Remembered(read) | Known::Changed(read) => Some(read),
        }
    }

    /// The same, for what this transaction has changed in the database by itself.
    pub(super) fn read_mut(&mut self) -> Option<&mut Read> {
        match self {
            Known::New => None,
            Known::Read(read) | Known::Remembered(read) | Known::Changed(read) => Some(read),
        }
    }

    /// Whether its rows have to be written.
    pub(super) fn is_changed(&self) -> bool {
        match self {
            Known::New | Known::Changed(_) => true,
            Known::Read(_) | Known::Remembered(_) => false,
        }
    }

    /// Whether nothing vouches for it: another engine may know better, and no guarded update will tell.
    pub(super) fn is_doubtful(&self) -> bool {
        match self {
            Known::Remembered(_) => true,
            Known::New | Known::Read(_) | Known::Changed(_) => false,
        }
    }

    fn changed(self) -> Known {
        match self {
            Known::Read(read) | Known::Remembered(read) => Known::Changed(read),
            Known::New | Known::Changed(_) => self,
        }
    }

    fn remembered(self) -> Option<Known> {
        match self {
            Known::Read(read) | Known::Remembered(read) => Some(Known::Remembered(read)),
            Known::New | Known::Changed(_) => None,
        }
    }
}

impl Read {
    fn of(row: &operation::Model, steps: Vec<step::Model>) -> Read {
        Read { version: row.version, ready: row.state == "ready", holders: row.holders, steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: i64) -> Read {
        Read { version, ready: false, holders: 0, steps: vec![] }
    }

    #[test]
    fn what_is_changed_is_guarded_by_what_it_was_however_often_it_changes() {
        let (here, before) = (Known::Read(read(7)), Known::Remembered(read(7)));
        let after = || Known::Changed(read(7));
        for (known, expected) in [(Known::New, Known::New), (here, after()), (before, after())] {
            let changed = known.clone().changed();
            assert_eq!(changed, expected);
            assert!(changed.is_changed() && !changed.is_doubtful(), "{changed:?}");
            assert_eq!(changed.read(), known.read());
            assert_eq!(changed.clone().changed(), changed, "it changes once more");
        }
    }

    #[test]
    fn only_what_was_written_is_remembered_and_only_that_is_doubtful() {
        for known in [Known::Read(read(7)), Known::Remembered(read(7))] {
            let remembered = known.remembered().unwrap();
            assert_eq!(remembered, Known::Remembered(read(7)));
            assert!(remembered.is_doubtful() && !remembered.is_changed());
        }
        assert_eq!(Known::New.remembered(), None);
        assert_eq!(Known::Read(read(7)).changed().remembered(), None);
        assert!(!Known::Read(read(7)).is_doubtful());
    }
}
