//! An operation in a unit of work: its row, the machine's view of it, and what was read, by which its update is
//! guarded.

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
    /// As read: `None` for a new operation.
    pub(super) read: Option<Read>,
    /// Its rows have to be written.
    pub(super) changed: bool,
    /// It wasn't read in this transaction but remembered from an earlier one: another engine may know better.
    pub(super) remembered: bool,
}

/// What an operation's update is guarded by.
#[derive(Debug, Clone)]
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
        Ok(Loaded { row, operation, deliveries, read: Some(read), changed: false, remembered: false })
    }

    /// A new one, before its first event.
    pub(super) fn new(row: operation::Model, operation: Operation) -> Loaded {
        let deliveries = vec![Delivery::default(); operation.steps.len()];
        Loaded { row, operation, deliveries, read: None, changed: true, remembered: false }
    }

    /// The operation.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Its row; the machine's columns are written at the end of the unit.
    pub fn row(&self) -> &operation::Model {
        &self.row
    }

    /// One hold on it went, in this transaction.
    pub(super) fn let_go(&mut self) {
        self.row.holders -= 1;
        if let Some(read) = &mut self.read {
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
        let read = |seq: usize| self.read.as_ref().is_some_and(|it| it.steps.iter().any(|it| usize::try_from(it.seq) == Ok(seq)));
        let known =
            (0..self.operation.steps.len()).filter(|&seq| self.operation.steps[seq].state != StepState::Planned || read(seq));
        Ok(known
            .map(|seq| rows::step_row(&self.operation, seq, &self.deliveries[seq], self.row.priority))
            .collect::<anyhow::Result<_>>()?)
    }

    /// Its rows were written: from now on this is what was read.
    pub(super) fn written(&mut self, steps: Vec<step::Model>) {
        self.row.plan = Value::Null;
        self.read = Some(Read::of(&self.row, steps));
        self.changed = false;
    }
}

impl Read {
    fn of(row: &operation::Model, steps: Vec<step::Model>) -> Read {
        Read { version: row.version, ready: row.state == "ready", holders: row.holders, steps }
    }
}
