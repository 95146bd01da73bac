//! One unit of work: the operations that a transaction loads, what their events change, and the writing of it
//! all at the end, in few statements. Every change is guarded by what was read; a miss is `Failed::Conflict`.

use super::{
    history,
    rows::{self, Delivery, all_set, state_name},
};
use crate::{
    config::Config,
    database::Failed,
    ledger::Ledger,
    machine::{self, Effect, Event, Ignored, Operation, State, StepState},
    plan::Work,
};
use longshore_schema::{
    ids::OperationId,
    step::{Attempt, Pace},
    tables::{history as history_table, operation, outbox, step},
    time::Timestamp,
    wire::Control,
};
use sea_orm::{ActiveModelTrait, ActiveValue, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A unit of work.
pub struct Unit<'t> {
    pub(crate) tx: &'t DatabaseTransaction,
    pub(super) config: Config,
    pub(super) now: Timestamp,
    pub(crate) ledger: Ledger,
    pub(super) operations: BTreeMap<OperationId, Loaded>,
    pub(super) outbox: Vec<outbox::Model>,
    /// Messages that needn't survive: sent after the commit, never stored.
    pub(super) passing: Vec<outbox::Model>,
    history: Vec<history_table::Model>,
    /// Steps that left the broker's queue, and those that want in, by queue.
    pub(super) queues: BTreeMap<String, i32>,
    pub(super) unsent: BTreeSet<(OperationId, usize)>,
    /// Whether the queues are filled from the database even if nothing left them.
    pub(super) refilled: bool,
    /// Events that follow from events.
    pub(super) next: VecDeque<(OperationId, Event)>,
}

/// An operation in a unit of work.
pub struct Loaded {
    pub(super) row: operation::Model,
    pub(super) operation: Operation,
    pub(super) deliveries: Vec<Delivery>,
    /// As read: `None` for a new operation.
    read: Option<(operation::Model, Vec<step::Model>)>,
    changed: bool,
}

impl<'t> Unit<'t> {
    /// An empty unit in a transaction.
    pub fn new(tx: &'t DatabaseTransaction, config: Config, now: Timestamp) -> Unit<'t> {
        Unit {
            tx,
            config,
            now,
            ledger: Ledger::default(),
            operations: BTreeMap::new(),
            outbox: vec![],
            passing: vec![],
            history: vec![],
            queues: BTreeMap::new(),
            unsent: BTreeSet::new(),
            refilled: false,
            next: VecDeque::new(),
        }
    }

    /// The transaction.
    pub fn tx(&self) -> &'t DatabaseTransaction {
        self.tx
    }

    /// The engine's times and limits.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Whether this attempt is granted to that worker.
    pub fn runs(&self, attempt: Attempt, worker: &str) -> bool {
        let step = self.operations.get(&attempt.operation).and_then(|it| it.operation.steps.get(usize::from(attempt.seq)));
        step.is_some_and(|it| {
            let state = StepState::Running { way: attempt.way, worker: worker.to_owned() };
            it.n == attempt.n && it.state == state
        })
    }

    /// When the current attempt must be started at the latest, if it was sent.
    pub fn start_before(&self, attempt: Attempt) -> Option<i64> {
        self.operations.get(&attempt.operation)?.deliveries.get(usize::from(attempt.seq))?.start_before
    }

    /// A running step's row was renewed in this transaction.
    pub fn was_renewed(&mut self, attempt: Attempt, until: i64, done_bytes: i64, total_bytes: Option<i64>) {
        let Some(loaded) = self.operations.get_mut(&attempt.operation) else { return };
        let seq = usize::from(attempt.seq);
        loaded.deliveries[seq] = Delivery { due_at: Some(until), done_bytes, total_bytes, ..loaded.deliveries[seq].clone() };
        let read = loaded.read.iter_mut().flat_map(|(_, steps)| steps);
        if let Some(row) = read.into_iter().find(|it| usize::try_from(it.seq) == Ok(seq)) {
            (row.due_at, row.done_bytes, row.total_bytes) = (Some(until), done_bytes, total_bytes);
        }
    }

    /// The transaction's time, by the database's clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Loads operations that aren't loaded yet. Unknown ids are left out.
    pub async fn load(&mut self, ids: impl IntoIterator<Item = OperationId>) -> Result<(), Failed> {
        let ids: BTreeSet<_> = ids.into_iter().filter(|it| !self.operations.contains_key(it)).map(|it| it.0).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let rows = operation::Entity::find().filter(operation::Column::Id.is_in(ids.iter().copied())).all(self.tx).await?;
        let steps = step::Entity::find().filter(step::Column::OperationId.is_in(ids)).order_by_asc(step::Column::Seq);
        let mut by_operation = BTreeMap::<uuid::Uuid, Vec<step::Model>>::new();
        for step in steps.all(self.tx).await? {
            by_operation.entry(step.operation_id).or_default().push(step);
        }
        for row in rows {
            let steps = by_operation.remove(&row.id).unwrap_or_default();
            let operation = rows::operation_of(&row, &steps)?;
            let mut deliveries = vec![Delivery::default(); operation.steps.len()];
            for step in &steps {
                deliveries[usize::try_from(step.seq).unwrap_or(0)] = rows::delivery_of(step);
            }
            let id = OperationId(row.id);
            self.operations
                .insert(id, Loaded { row: row.clone(), operation, deliveries, read: Some((row, steps)), changed: false });
        }
        Ok(())
    }

    /// A loaded operation.
    pub fn get(&self, id: OperationId) -> Option<&Loaded> {
        self.operations.get(&id)
    }

    /// Adds a new operation, before its first event.
    pub fn add(&mut self, row: operation::Model, operation: Operation) {
        let deliveries = vec![Delivery::default(); operation.steps.len()];
        self.operations.insert(operation.id, Loaded { row, operation, deliveries, read: None, changed: true });
    }

    /// Takes a new operation back, with everything that it caused in this unit.
    pub fn withdraw(&mut self, id: OperationId) {
        self.operations.remove(&id);
        self.history.retain(|it| it.operation_id != id.0);
        let of = |key: &str| key.starts_with(&id.to_string());
        self.outbox.retain(|it| !it.properties["message_id"].as_str().is_some_and(of));
        self.unsent.retain(|(operation, _)| *operation != id);
        self.next.retain(|(operation, _)| *operation != id);
    }

    /// Whether what the clock found still holds: a renewal, or another engine, may have been faster.
    pub fn is_due(&self, id: OperationId, event: &Event) -> bool {
        let Some(loaded) = self.operations.get(&id) else { return false };
        match event {
            Event::LeaseLost { attempt } | Event::Unstarted { attempt } | Event::TimerFired { attempt } => {
                let due_at = loaded.deliveries.get(usize::from(attempt.seq)).and_then(|it| it.due_at);
                due_at.is_some_and(|it| it <= self.now.0)
            }
            Event::DeadlinePassed => loaded.row.deadline <= self.now.0,
            _ => true,
        }
    }

    /// Applies an event to a loaded operation, and all that follow from it in this transaction.
    pub async fn apply(&mut self, id: OperationId, event: Event, actor: &str) -> Result<Result<(), Ignored>, Failed> {
        if let Err(ignored) = self.apply_one(id, &event, actor).await? {
            return Ok(Err(ignored));
        }
        while let Some((id, event)) = self.next.pop_front() {
            self.load([id]).await?;
            if let Err(ignored) = self.apply_one(id, &event, "engine").await? {
                tracing::debug!(operation.id = %id, ?event, %ignored, "an event that followed does not apply");
            }
        }
        Ok(Ok(()))
    }

    async fn apply_one(&mut self, id: OperationId, event: &Event, actor: &str) -> Result<Result<(), Ignored>, Failed> {
        let Some(loaded) = self.operations.get_mut(&id) else { return Ok(Err(Ignored::NoEffect)) };
        let before = loaded.operation.clone();
        let queued = loaded.queued();
        let effects = match machine::transition(&mut loaded.operation, event) {
            Ok(effects) => effects,
            Err(ignored) => return Ok(Err(ignored)),
        };
        loaded.changed = true;
        let from = (loaded.row.version > 0).then(|| state_name(before.state).to_owned());
        loaded.row.version += 1;
        loaded.row.updated_at = self.now.0;
        let mut entry = history_table::Model {
            operation_id: id.0,
            seq: loaded.row.version,
            at: self.now.0,
            event: serde_json_canonicalizer::to_string(event)?,
            from_state: from,
            to_state: state_name(loaded.operation.state).to_owned(),
            actor: actor.to_owned(),
            detail: None,
            digest: vec![],
        };
        entry.digest = history::digest(&loaded.row.digest, &entry)?;
        loaded.row.digest.clone_from(&entry.digest);
        loaded.settle_deliveries(&before);
        for queue in queued.difference(&loaded.queued()) {
            *self.queues.entry(queue.2.clone()).or_default() -= 1;
        }
        let announced = entry.clone();
        self.history.push(entry);
        for effect in effects {
            self.effect(id, effect, &before, &announced).await?;
        }
        if self.operations[&id].operation.state == State::Ready && before.state != State::Ready {
            self.settle_ready(id).await?;
        }
        let loaded = &self.operations[&id];
        if loaded.operation.state == State::Ready && loaded.operation.destroy_requested && loaded.row.holders == 0 {
            self.next.push_back((id, Event::HoldsGone));
        }
        Ok(Ok(()))
    }

    async fn effect(
        &mut self,
        id: OperationId,
        effect: Effect,
        before: &Operation,
        entry: &history_table::Model,
    ) -> Result<(), Failed> {
        match effect {
            Effect::Send(attempt) => {
                self.unsent.insert((id, usize::from(attempt.seq)));
            }
            Effect::Pause { attempt, failures } => {
                let due = self.now.0 + self.backoff_us(failures, attempt);
                self.delivery(id, attempt.seq).due_at = Some(due);
            }
            Effect::Abort(attempt) => self.abort(id, attempt, before),
            Effect::Grant(attempt) => {
                let lease = i64::from(self.config.lease_s + self.config.margin_s) * 1_000_000;
                let due = self.now.0 + lease;
                self.delivery(id, attempt.seq).due_at = Some(due);
                let worker = match &self.operations[&id].operation.steps[usize::from(attempt.seq)].state {
                    StepState::Running { worker, .. } => worker.clone(),
                    _ => String::new(),
                };
                self.control(&worker, &Control::Go { attempt, pace: Pace::Long { lease_s: self.config.lease_s } })?;
            }
            Effect::Perform { seq } => {
                let event = self.perform(id, seq).await?;
                self.next.push_back((id, event));
            }
            Effect::Announce => self.announce(id, entry)?,
            Effect::Release { remains } => self.release(id, &remains).await?,
        }
        Ok(())
    }

    /// An attempt that is still in the database is simply taken back; a worker that runs it is told to stop.
    fn abort(&mut self, id: OperationId, attempt: Attempt, before: &Operation) {
        let unsent = self.delivery(id, attempt.seq).start_before.is_none();
        let track = &before.steps[usize::from(attempt.seq)];
        match &track.state {
            StepState::Running { worker, .. } => {
                let worker = worker.clone();
                if let Err(error) = self.control(&worker, &Control::Stop { attempt }) {
                    tracing::error!(operation.id = %id, error = %error, "could not write a stop message");
                }
            }
            StepState::Sent { .. } if unsent => {
                self.unsent.remove(&(id, usize::from(attempt.seq)));
                self.next.push_back((id, Event::Unstarted { attempt }));
            }
            _ => (),
        }
    }

    pub(super) fn delivery(&mut self, id: OperationId, seq: u16) -> &mut Delivery {
        // The machine only names steps that exist.
        let loaded = self.operations.get_mut(&id).expect("an effect's operation is loaded");
        &mut loaded.deliveries[usize::from(seq)]
    }

    /// Grows with the failures, up to a cap, with jitter so that many don't come back at once.
    fn backoff_us(&self, failures: u32, attempt: Attempt) -> i64 {
        let base = self.config.backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let ms = base.min(self.config.backoff_cap_ms);
        let spread = rand::random_range(0.5..=1.0);
        tracing::debug!(operation.id = %attempt.operation, seq = attempt.seq, attempt = attempt.n, ms, "a step rests");
        (ms as f64 * 1000.0 * spread) as i64
    }

    /// Writes everything. Nothing may be applied afterwards.
    /// Returns the rows of the outbox, and messages that needn't survive.
    pub async fn flush(mut self) -> Result<(Vec<outbox::Model>, Vec<outbox::Model>), Failed> {
        self.wake_waiting().await?;
        self.dispatch().await?;
        let (mut new_operations, mut new_steps) = (vec![], vec![]);
        for (id, loaded) in &mut self.operations {
            if !loaded.changed {
                continue;
            }
            rows::put_operation(&mut loaded.row, &loaded.operation)?;
            let steps = loaded.step_rows()?;
            let Some((read, read_steps)) = &loaded.read else {
                new_operations.push(all_set(loaded.row.clone()));
                new_steps.extend(steps.into_iter().map(step::Model::into));
                continue;
            };
            if loaded.row.version != read.version {
                update_operation(self.tx, *id, read, &loaded.row).await?;
            }
            for row in steps {
                match read_steps.iter().find(|it| it.seq == row.seq) {
                    Some(read) if *read == row => (),
                    Some(read) => update_step(self.tx, read, row).await?,
                    None => new_steps.push(row.into()),
                }
            }
        }
        if !new_operations.is_empty() {
            operation::Entity::insert_many(new_operations).exec_without_returning(self.tx).await?;
        }
        if !new_steps.is_empty() {
            let new_steps: Vec<step::ActiveModel> = new_steps.into_iter().map(|it: step::ActiveModel| it.reset_all()).collect();
            step::Entity::insert_many(new_steps).exec_without_returning(self.tx).await?;
        }
        if !self.history.is_empty() {
            let rows = self.history.into_iter().map(|it| history_table::ActiveModel::from(it).reset_all());
            history_table::Entity::insert_many(rows).exec_without_returning(self.tx).await?;
        }
        if !self.outbox.is_empty() {
            let rows = self.outbox.iter().cloned().map(|it| outbox::ActiveModel::from(it).reset_all());
            outbox::Entity::insert_many(rows).exec_without_returning(self.tx).await?;
        }
        self.ledger.flush(self.tx).await?;
        Ok((self.outbox, self.passing))
    }
}

impl Loaded {
    /// The operation.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Its row; the machine's columns are written at the end of the unit.
    pub fn row(&self) -> &operation::Model {
        &self.row
    }

    /// Its steps' rows have to be written.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// One hold on it went, in this transaction.
    pub(super) fn let_go(&mut self) {
        self.row.holders -= 1;
        if let Some((read, _)) = &mut self.read {
            read.holders -= 1;
        }
    }

    /// Steps that are in a queue of the broker and not known to be started.
    fn queued(&self) -> BTreeSet<(usize, u32, String)> {
        let steps = self.operation.steps.iter().zip(&self.deliveries).zip(&self.operation.plan.steps).enumerate();
        let queued = steps.filter_map(|(seq, ((track, delivery), planned))| match (&track.state, &planned.work) {
            (StepState::Sent { .. }, Work::Worker(call)) if delivery.start_before.is_some() => {
                Some((seq, track.n, call.queue.clone()))
            }
            _ => None,
        });
        queued.collect()
    }

    /// What was known about an attempt ends with it.
    fn settle_deliveries(&mut self, before: &Operation) {
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
    fn step_rows(&self) -> Result<Vec<step::Model>, Failed> {
        let read =
            |seq: usize| self.read.as_ref().is_some_and(|(_, steps)| steps.iter().any(|it| usize::try_from(it.seq) == Ok(seq)));
        let known =
            (0..self.operation.steps.len()).filter(|&seq| self.operation.steps[seq].state != StepState::Planned || read(seq));
        Ok(known
            .map(|seq| rows::step_row(&self.operation, seq, &self.deliveries[seq], self.row.priority))
            .collect::<anyhow::Result<_>>()?)
    }
}

async fn update_operation(
    tx: &DatabaseTransaction,
    id: OperationId,
    read: &operation::Model,
    row: &operation::Model,
) -> Result<(), Failed> {
    let mut row = all_set(row.clone());
    row.id = ActiveValue::NotSet;
    // Holds come and go beside the version; they meet a destroy on this row.
    row.holders = ActiveValue::NotSet;
    row.last_used_at = ActiveValue::NotSet;
    let mut update = operation::Entity::update_many()
        .set(row)
        .filter(operation::Column::Id.eq(id.0))
        .filter(operation::Column::Version.eq(read.version));
    if read.state == "ready" {
        update = update.filter(operation::Column::Holders.eq(read.holders));
    }
    match update.exec(tx).await?.rows_affected {
        1 => Ok(()),
        _ => Err(Failed::Conflict(format!("operation {id} changed meanwhile"))),
    }
}

async fn update_step(tx: &DatabaseTransaction, read: &step::Model, row: step::Model) -> Result<(), Failed> {
    let (operation_id, seq) = (row.operation_id, row.seq);
    let mut row = step::ActiveModel::from(row).reset_all();
    row.operation_id = ActiveValue::NotSet;
    row.seq = ActiveValue::NotSet;
    let same = |column: step::Column, value: Option<i64>| match value {
        Some(value) => column.eq(value),
        None => column.is_null(),
    };
    let update = step::Entity::update_many()
        .set(row)
        .filter(step::Column::OperationId.eq(operation_id))
        .filter(step::Column::Seq.eq(seq))
        .filter(step::Column::State.eq(&read.state))
        .filter(step::Column::Attempt.eq(read.attempt))
        .filter(same(step::Column::StartBefore, read.start_before))
        .filter(same(step::Column::DueAt, read.due_at));
    match update.exec(tx).await?.rows_affected {
        1 => Ok(()),
        _ => Err(Failed::Conflict(format!("step {seq} of operation {operation_id} changed meanwhile"))),
    }
}
