//! Events of operations: the machine decides, and its effects are carried out in this transaction or noted for
//! after the commit.

use super::{history, rows::state_name, unit::Unit};
use crate::{
    database::Failed,
    machine::{self, Effect, Event, Ignored, Operation, State, StepState},
    mutant::{self, Mutant},
};
use longshore_schema::{
    ids::OperationId,
    step::{Attempt, Pace},
    tables::history as history_table,
    wire::Control,
};

impl Unit<'_> {
    /// Whether what the clock found still holds: a renewal, or another engine, may have been faster.
    pub fn is_due(&self, id: OperationId, event: &Event) -> bool {
        let Some(loaded) = self.operations.get(&id) else { return false };
        match event {
            Event::LeaseLost { attempt } | Event::Unstarted { attempt } | Event::TimerFired { attempt } => {
                let due_at = loaded.deliveries.get(usize::from(attempt.seq)).and_then(|it| it.due_at);
                due_at.is_some_and(|it| it <= self.now.0)
            }
            Event::DeadlinePassed => loaded.row.deadline <= self.now.0,
            Event::HoldsGone => loaded.row.holders == 0,
            // No clock finds these.
            Event::Accepted
            | Event::Performed { .. }
            | Event::Refused { .. }
            | Event::Woken
            | Event::Started { .. }
            | Event::Reported { .. }
            | Event::CancelRequested
            | Event::DestroyRequested { .. }
            | Event::RetryRequested
            | Event::AbandonRequested { .. } => false,
        }
    }

    /// Applies an event to a loaded operation, and all that follow from it in this transaction.
    pub async fn apply(&mut self, id: OperationId, event: Event, actor: &str) -> Result<Result<(), Ignored>, Failed> {
        let mut first = self.apply_one(id, &event, actor).await?;
        if first.is_err() && self.operations.get(&id).is_some_and(|it| it.known.is_doubtful()) {
            self.read_again([id]).await?;
            first = self.apply_one(id, &event, actor).await?;
        }
        if let Err(ignored) = first {
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
        let queued: Vec<_> = loaded.queued().into_iter().map(|(seq, n, queue)| (seq, n, queue.to_owned())).collect();
        let effects = match machine::transition(&mut loaded.operation, event) {
            Ok(effects) => effects,
            Err(ignored) => return Ok(Err(ignored)),
        };
        loaded.change();
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
        if loaded.operation.waiting_for != before.waiting_for && !matches!(event, Event::Performed { .. }) {
            self.left_line.extend(before.waiting_for.clone());
        }
        loaded.settle_deliveries(&before);
        let still = loaded.queued();
        for (seq, n, queue) in &queued {
            if !still.contains(&(*seq, *n, queue.as_str())) {
                *self.queues.entry(queue.clone()).or_default() -= 1;
            }
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
                self.delivery(id, attempt.seq).due_at = Some(self.lease_end());
                let worker = match &self.operations[&id].operation.steps[usize::from(attempt.seq)].state {
                    StepState::Running { worker, .. } => worker.clone(),
                    _ => String::new(),
                };
                let token = self.start_token.take();
                self.control(&worker, &Control::Go { attempt, pace: Pace::Long { lease_s: self.config.lease_s }, token })?;
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
            StepState::Running { .. } if mutant::is(Mutant::StopWithoutWord) => (),
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

    /// When a lease that begins now is over for everybody.
    pub(crate) fn lease_end(&self) -> i64 {
        let lease_s = if mutant::is(Mutant::UndoBeforeLeaseEnd) {
            self.config.lease_s / 2
        } else {
            self.config.lease_s + self.config.margin_s
        };
        self.now.plus_s(lease_s.into()).0
    }

    /// Grows with the failures, up to a cap, with jitter so that many don't come back at once.
    fn backoff_us(&self, failures: u32, attempt: Attempt) -> i64 {
        let base = self.config.backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let ms = base.min(self.config.backoff_cap_ms);
        let spread = 1.0 - self.config.jitter * rand::random_range(0.0..=1.0);
        tracing::debug!(operation.id = %attempt.operation, seq = attempt.seq, attempt = attempt.n, ms, "a step rests");
        (ms as f64 * 1000.0 * spread) as i64
    }
}
