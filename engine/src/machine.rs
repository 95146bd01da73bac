//! The state machine of an operation. Pure: no clock, no await, no database, no randomness. Everything that
//! changes an operation goes through `transition`; folding an operation's history through it gives its state.
//!
//! Steps are done first to last and undone last to first, one at a time. An undo covers the step that failed
//! half-way too. **Invariant**: nothing is sent again or undone while an attempt may still act; the events
//! `Reported`, `Unstarted` and `LeaseLost` are what says that it can't.

mod step;
#[cfg(test)]
mod tests;

use crate::plan::{EngineStep, Plan, Work};
use longshore_schema::{
    fault::{Class, Fault, code},
    ids::OperationId,
    step::{Attempt, Way},
    wire::Outcome,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
pub use step::{StepState, Track};

/// Failures of one step in a row after which an operation turns back, or asks for attention if it can't.
pub const PATIENCE: u32 = 40;

/// Where an operation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Valid, planned, nothing done that could leave anything behind.
    Allocated,
    /// At least one step that may leave something was sent.
    Copying,
    /// The object is there and was read back.
    Ready,
    /// Undoing every step that may have run, last first; then it is what `End` says.
    Destroying(End),
    /// Nothing is left; it was asked for.
    Destroyed,
    /// Nothing is left; `fault` says why.
    Failed,
}

/// Where Destroying leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It was Ready, and its destruction was asked for.
    Destroyed,
    /// It never was Ready.
    Failed,
}

/// An operation, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Which.
    pub id: OperationId,
    /// What it does.
    pub plan: Arc<Plan>,
    /// Where it is.
    pub state: State,
    /// One for each step of the plan.
    pub steps: Vec<Track>,
    /// The place whose space it waits for.
    pub waiting_for: Option<String>,
    /// Why it failed, or goes back.
    pub fault: Option<Fault>,
    /// What it made.
    pub output: Option<Value>,
    /// It is to stop, but its commit step is on its way: the probe decides.
    pub stop: Option<Fault>,
    /// Destroy it when it is Ready and nobody holds it.
    pub destroy_requested: bool,
    /// Undoing fails again and again.
    pub needs_attention: bool,
}

/// Something that happened. Stored in the history as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command was accepted.
    Accepted,
    /// An engine step was done in this transaction.
    Performed {
        /// The step.
        seq: u16,
        /// Its output.
        output: Value,
    },
    /// An engine step can't be done: it waits for a place, or fails.
    Refused {
        /// The step.
        seq: u16,
        /// Why.
        fault: Fault,
        /// The place whose space it waits for; `None`: it fails.
        waits_for: Option<String>,
    },
    /// There may be room now.
    Woken,
    /// A worker wants to start a long step.
    Started {
        /// Which attempt.
        attempt: Attempt,
        /// Who.
        worker: String,
    },
    /// An attempt ended.
    Reported {
        /// Which.
        attempt: Attempt,
        /// Who.
        worker: String,
        /// How.
        result: Outcome,
    },
    /// An attempt was taken back before anyone could start it, or nobody started it in time and nobody can any more.
    Unstarted {
        /// Which.
        attempt: Attempt,
    },
    /// An attempt may have run and will not report: its lease, or its bound, is over.
    LeaseLost {
        /// Which.
        attempt: Attempt,
    },
    /// The pause before an attempt is over.
    TimerFired {
        /// Which.
        attempt: Attempt,
    },
    /// The operation's deadline passed.
    DeadlinePassed,
    /// Someone asked to cancel.
    CancelRequested,
    /// Someone asked to destroy.
    DestroyRequested {
        /// Whether the object is held at this moment.
        held: bool,
    },
    /// The last hold went.
    HoldsGone,
    /// An operator asked to try again now.
    RetryRequested,
    /// An operator gave the undo up.
    AbandonRequested {
        /// Why.
        reason: String,
    },
}

/// What follows from a transition: stored with the new state in one transaction, done after the commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this attempt.
    Send(Attempt),
    /// Send this attempt after a pause that grows with the failures.
    Pause {
        /// Which.
        attempt: Attempt,
        /// Failures in a row, from 1; 0: nothing failed, the step just wasn't started.
        failures: u32,
    },
    /// The attempt should stop; it is over only when it reports, or when its lease is.
    Abort(Attempt),
    /// Grant the attempt to the worker that wants to start it.
    Grant(Attempt),
    /// Do this engine step in this transaction; `Performed` or `Refused` follows.
    Perform {
        /// The step's place in the plan.
        seq: u16,
    },
    /// Tell the world the new state.
    Announce,
    /// The operation is over: give back claims, holds and bytes; write down what may remain.
    Release {
        /// What may remain of steps whose undo was given up.
        remains: Vec<u16>,
    },
}

/// The event does not apply to the state: late, repeated, or senseless. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// A message about an attempt that isn't current.
    #[error("not the current attempt")]
    Stale,
    /// The point of no return is behind.
    #[error("past the point of no return")]
    TooLate,
    /// The state doesn't allow it, or it is so already.
    #[error("does not apply in this state")]
    NoEffect,
}

/// Applies `event`. On `Ignored` the operation is as it was.
pub fn transition(operation: &mut Operation, event: &Event) -> Result<Vec<Effect>, Ignored> {
    let before = operation.state;
    let mut effects = vec![];
    match event {
        Event::Accepted => operation.accepted(&mut effects)?,
        Event::Performed { seq, output } => operation.performed(*seq, output, &mut effects)?,
        Event::Refused { seq, fault, waits_for } => operation.refused(*seq, fault, waits_for.as_ref(), &mut effects)?,
        Event::Woken => operation.woken(&mut effects)?,
        Event::Started { attempt, worker } => operation.started(*attempt, worker, &mut effects)?,
        Event::Reported { attempt, result, worker: _ } => operation.reported(*attempt, result, &mut effects)?,
        Event::Unstarted { attempt } => operation.unstarted(*attempt, &mut effects)?,
        Event::LeaseLost { attempt } => operation.lease_lost(*attempt, &mut effects)?,
        Event::TimerFired { attempt } => operation.timer_fired(*attempt, &mut effects)?,
        Event::DeadlinePassed => {
            operation.stop(Fault::permanent(code::DEADLINE_PASSED, "the operation's deadline passed"), &mut effects)?;
        }
        Event::CancelRequested => operation.stop(Fault::cancelled("the operation was cancelled"), &mut effects)?,
        Event::DestroyRequested { held } => operation.destroy(*held, &mut effects)?,
        Event::HoldsGone => operation.holds_gone(&mut effects)?,
        Event::RetryRequested => operation.retry(&mut effects)?,
        Event::AbandonRequested { reason } => operation.abandon(reason, &mut effects)?,
    }
    if operation.state != before {
        effects.push(Effect::Announce);
    }
    if operation.state != before && operation.is_final() {
        effects.push(Effect::Release { remains: operation.abandoned() });
    }
    Ok(effects)
}

impl Operation {
    /// An operation before its first event.
    pub fn new(id: OperationId, plan: impl Into<Arc<Plan>>) -> Operation {
        let plan = plan.into();
        let steps = vec![Track::default(); plan.steps.len()];
        Operation {
            id,
            plan,
            state: State::Allocated,
            steps,
            waiting_for: None,
            fault: None,
            output: None,
            stop: None,
            destroy_requested: false,
            needs_attention: false,
        }
    }

    /// Whether nothing can happen to it any more.
    pub fn is_final(&self) -> bool {
        match self.state {
            State::Failed | State::Destroyed => true,
            State::Allocated | State::Copying | State::Ready | State::Destroying(_) => false,
        }
    }

    /// The output of a step that is done.
    pub fn output_of(&self, seq: u16) -> Option<&Value> {
        match &self.steps.get(usize::from(seq))?.state {
            StepState::Done { output } => Some(output),
            _ => None,
        }
    }

    /// The current attempt of a step that a worker has, or will have.
    pub fn current(&self) -> Option<Attempt> {
        let seq = self.steps.iter().position(|it| it.state.is_out())?;
        self.attempt(seq)
    }

    fn attempt(&self, seq: usize) -> Option<Attempt> {
        let track = self.steps.get(seq)?;
        let way = track.state.way()?;
        Some(Attempt { operation: self.id, seq: u16::try_from(seq).ok()?, n: track.n, way })
    }

    fn accepted(&mut self, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let fresh = self.state == State::Allocated && self.steps.iter().all(|it| it.state == StepState::Planned);
        if !fresh {
            return Err(Ignored::NoEffect);
        }
        effects.push(Effect::Announce);
        self.forward(effects);
        Ok(())
    }

    fn performed(&mut self, seq: u16, output: &Value, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        self.expect_engine_step(seq)?;
        self.waiting_for = None;
        if self.plan.steps.get(usize::from(seq)).is_some_and(|it| it.work == Work::Engine(EngineStep::Publish)) {
            self.output = Some(output.clone());
        }
        self.steps[usize::from(seq)].state = StepState::Done { output: output.clone() };
        self.forward(effects);
        Ok(())
    }

    fn refused(&mut self, seq: u16, fault: &Fault, waits: Option<&String>, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        self.expect_engine_step(seq)?;
        match waits {
            Some(place) => self.waiting_for = Some(place.clone()),
            None => self.turn_back(fault.clone(), effects),
        }
        Ok(())
    }

    /// The engine step that is next to be done, while going forward.
    fn expect_engine_step(&self, seq: u16) -> Result<(), Ignored> {
        let forward = matches!(self.state, State::Allocated | State::Copying);
        let next = self.steps.iter().position(|it| !matches!(it.state, StepState::Done { .. }));
        let engine = self.plan.steps.get(usize::from(seq)).is_some_and(|it| matches!(it.work, Work::Engine(_)));
        (forward && engine && next == Some(usize::from(seq))).then_some(()).ok_or(Ignored::NoEffect)
    }

    fn woken(&mut self, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        if self.waiting_for.is_none() || !matches!(self.state, State::Allocated | State::Copying) {
            return Err(Ignored::NoEffect);
        }
        self.forward(effects);
        Ok(())
    }

    fn started(&mut self, attempt: Attempt, worker: &str, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let seq = self.expect_attempt(attempt)?;
        let StepState::Sent { way } = self.steps[seq].state else { return Err(Ignored::Stale) };
        let unwanted = way == Way::Do && (matches!(self.state, State::Destroying(_)) || self.stop.is_some());
        if unwanted {
            return self.unstarted(attempt, effects);
        }
        self.steps[seq].state = StepState::Running { way, worker: worker.to_owned() };
        effects.push(Effect::Grant(attempt));
        Ok(())
    }

    fn reported(&mut self, attempt: Attempt, result: &Outcome, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let seq = self.expect_attempt(attempt)?;
        match result {
            Outcome::Output(output) => self.settle(seq, attempt.way, output, effects),
            Outcome::Fault(fault) => self.fault(seq, attempt, fault, effects),
        }
        Ok(())
    }

    fn settle(&mut self, seq: usize, way: Way, output: &Value, effects: &mut Vec<Effect>) {
        self.steps[seq].failures = 0;
        match way {
            Way::Undo => {
                self.steps[seq].state = StepState::Undone;
                self.backward(effects);
            }
            Way::Probe if output.is_null() => {
                self.steps[seq].state = StepState::Faulted;
                let fault = self.stop.take().or(self.fault.take());
                self.turn_back(
                    fault.unwrap_or_else(|| Fault::permanent(code::INTERNAL, "the commit didn't take effect")),
                    effects,
                );
            }
            Way::Do | Way::Probe => {
                self.steps[seq].state = StepState::Done { output: output.clone() };
                if self.is_committed() {
                    self.stop = None;
                    self.fault = None;
                }
                self.go_on(effects);
            }
        }
    }

    fn fault(&mut self, seq: usize, attempt: Attempt, fault: &Fault, effects: &mut Vec<Effect>) {
        self.steps[seq].failures += 1;
        self.steps[seq].fault = Some(fault.clone());
        let failures = self.steps[seq].failures;
        let hopeless = fault.class != Class::Transient || failures >= PATIENCE;
        match attempt.way {
            // Undoing and probing don't give up: their answer is needed.
            Way::Undo | Way::Probe => {
                self.needs_attention |= hopeless || failures >= PATIENCE / 4;
                self.pause(seq, attempt.way, failures, effects);
            }
            Way::Do if matches!(self.state, State::Destroying(_)) => {
                self.steps[seq].state = StepState::Faulted;
                self.backward(effects);
            }
            Way::Do if self.is_committed() => {
                self.needs_attention |= hopeless;
                self.pause(seq, Way::Do, failures, effects);
            }
            Way::Do if (hopeless || self.stop.is_some()) && self.is_commit(seq) => {
                self.fault = Some(fault.clone());
                self.send(seq, Way::Probe, effects);
            }
            Way::Do if hopeless => {
                self.steps[seq].state = StepState::Faulted;
                self.turn_back(fault.clone(), effects);
            }
            Way::Do => self.pause(seq, Way::Do, failures, effects),
        }
    }

    /// Nobody started the attempt, and nobody can any more.
    fn unstarted(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let seq = self.expect_attempt(attempt)?;
        let StepState::Sent { way } = self.steps[seq].state else { return Err(Ignored::Stale) };
        if way == Way::Do && matches!(self.state, State::Destroying(_)) {
            // An earlier attempt may have run in part.
            self.steps[seq].state = if attempt.n > 1 { StepState::Faulted } else { StepState::Planned };
            self.backward(effects);
        } else if way == Way::Do && self.stop.is_some() {
            self.send(seq, Way::Probe, effects);
        } else {
            self.pause(seq, way, 0, effects);
        }
        Ok(())
    }

    fn lease_lost(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let seq = self.expect_attempt(attempt)?;
        let fault =
            Fault::transient(code::LEASE_LOST, format!("attempt {} of {} fell silent", attempt.n, self.plan.steps[seq].name));
        self.fault(seq, attempt, &fault, effects);
        Ok(())
    }

    fn timer_fired(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let seq = usize::from(attempt.seq);
        let track = self.steps.get(seq).ok_or(Ignored::Stale)?;
        match track.state {
            StepState::Resting { way } if attempt.n == track.n + 1 && way == attempt.way => {
                self.send(seq, way, effects);
                Ok(())
            }
            _ => Err(Ignored::Stale),
        }
    }

    /// Cancel and deadline.
    fn stop(&mut self, fault: Fault, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        match self.state {
            State::Allocated | State::Copying if self.is_committed() => Err(Ignored::TooLate),
            State::Ready => Err(Ignored::TooLate),
            State::Allocated | State::Copying => {
                if self.stop.is_some() {
                    return Err(Ignored::NoEffect);
                }
                match self.commit_under_way() {
                    Some(seq) => self.stop_commit(seq, fault, effects),
                    None => self.turn_back(fault, effects),
                }
                Ok(())
            }
            State::Destroying(_) | State::Destroyed | State::Failed => Err(Ignored::NoEffect),
        }
    }

    /// The commit step may take effect at any moment: only the probe can tell.
    fn stop_commit(&mut self, seq: usize, fault: Fault, effects: &mut Vec<Effect>) {
        self.stop = Some(fault);
        match self.steps[seq].state {
            StepState::Resting { way: Way::Do } => self.send(seq, Way::Probe, effects),
            _ => effects.extend(self.attempt(seq).map(Effect::Abort)),
        }
    }

    fn destroy(&mut self, held: bool, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        match self.state {
            State::Allocated | State::Copying => match self.stop(Fault::cancelled("its destruction was asked for"), effects) {
                Err(Ignored::TooLate) if !self.destroy_requested => {
                    self.destroy_requested = true;
                    Ok(())
                }
                Ok(()) => {
                    // If the commit took effect all the same, it is destroyed once it is Ready.
                    self.destroy_requested = self.stop.is_some();
                    Ok(())
                }
                other => other,
            },
            State::Ready if held && self.destroy_requested => Err(Ignored::NoEffect),
            State::Ready if held => {
                self.destroy_requested = true;
                Ok(())
            }
            State::Ready => {
                self.tear_down(effects);
                Ok(())
            }
            State::Destroying(_) | State::Destroyed | State::Failed => Err(Ignored::NoEffect),
        }
    }

    fn holds_gone(&mut self, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        if self.state != State::Ready || !self.destroy_requested {
            return Err(Ignored::NoEffect);
        }
        self.tear_down(effects);
        Ok(())
    }

    fn retry(&mut self, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let resting = self.steps.iter().position(|it| matches!(it.state, StepState::Resting { .. }));
        let seq = resting.ok_or(Ignored::NoEffect)?;
        let StepState::Resting { way } = self.steps[seq].state else { return Err(Ignored::NoEffect) };
        self.needs_attention = false;
        self.steps[seq].failures = 0;
        self.send(seq, way, effects);
        Ok(())
    }

    fn abandon(&mut self, reason: &str, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        if !matches!(self.state, State::Destroying(_)) {
            return Err(Ignored::NoEffect);
        }
        effects.extend(self.current().map(Effect::Abort));
        let State::Destroying(end) = self.state else { return Err(Ignored::NoEffect) };
        for (track, planned) in self.steps.iter_mut().zip(&self.plan.steps) {
            if !track.state.is_clean() {
                track.state = if planned.needs_undo(end) { StepState::Abandoned } else { StepState::Undone };
            }
        }
        self.fault = Some(Fault::permanent(code::ABANDONED, reason));
        self.backward(effects);
        Ok(())
    }

    fn expect_attempt(&self, attempt: Attempt) -> Result<usize, Ignored> {
        let seq = usize::from(attempt.seq);
        let current = self.attempt(seq).filter(|_| self.steps[seq].state.is_out());
        (current == Some(attempt)).then_some(seq).ok_or(Ignored::Stale)
    }

    fn is_commit(&self, seq: usize) -> bool {
        self.plan.commit.is_some_and(|commit| usize::from(commit) == seq)
    }

    /// Whether the commit step is done: the operation will be finished, never undone.
    fn is_committed(&self) -> bool {
        let commit = self.plan.commit.and_then(|seq| self.steps.get(usize::from(seq)));
        commit.is_some_and(|it| matches!(it.state, StepState::Done { .. }))
    }

    /// The commit step, if one of its attempts was sent and none reported success.
    fn commit_under_way(&self) -> Option<usize> {
        let seq = usize::from(self.plan.commit?);
        match self.steps.get(seq)?.state {
            StepState::Sent { .. } | StepState::Running { .. } | StepState::Resting { .. } => Some(seq),
            StepState::Planned | StepState::Done { .. } | StepState::Faulted | StepState::Undone | StepState::Abandoned => None,
        }
    }

    fn send(&mut self, seq: usize, way: Way, effects: &mut Vec<Effect>) {
        let track = &mut self.steps[seq];
        track.n += 1;
        track.state = StepState::Sent { way };
        if self.state == State::Allocated && !self.plan.steps[seq].looks {
            self.state = State::Copying;
        }
        effects.extend(self.attempt(seq).map(Effect::Send));
    }

    fn pause(&mut self, seq: usize, way: Way, failures: u32, effects: &mut Vec<Effect>) {
        self.steps[seq].state = StepState::Resting { way };
        if let Some(now) = self.attempt(seq) {
            effects.push(Effect::Pause { attempt: Attempt { n: now.n + 1, ..now }, failures });
        }
    }

    /// After a step was done: forward, or, if the operation turned back meanwhile, backward.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Destroying(_) => self.backward(effects),
            State::Allocated | State::Copying => match self.stop.take() {
                Some(fault) => self.turn_back(fault, effects),
                None => self.forward(effects),
            },
            State::Ready | State::Destroyed | State::Failed => (),
        }
    }

    /// Starts the next step; Ready when there is none.
    fn forward(&mut self, effects: &mut Vec<Effect>) {
        let next = self.steps.iter().position(|it| !matches!(it.state, StepState::Done { .. }));
        let Some(seq) = next else {
            self.state = State::Ready;
            self.fault = None;
            return;
        };
        match &self.plan.steps[seq].work {
            Work::Engine(_) => effects.extend(u16::try_from(seq).ok().map(|seq| Effect::Perform { seq })),
            Work::Worker(_) => self.send(seq, Way::Do, effects),
        }
    }

    /// From now on it goes back, to Failed.
    fn turn_back(&mut self, fault: Fault, effects: &mut Vec<Effect>) {
        self.fault = Some(fault);
        self.stop = None;
        self.waiting_for = None;
        let untouched = self.state == State::Allocated;
        if untouched {
            effects.extend(self.current().map(Effect::Abort));
            for track in &mut self.steps {
                track.state = StepState::Undone;
            }
            self.state = State::Failed;
            return;
        }
        self.state = State::Destroying(End::Failed);
        match self.current() {
            Some(attempt) => effects.push(Effect::Abort(attempt)), // its end is awaited
            None => self.backward(effects),
        }
    }

    /// A Ready object goes.
    fn tear_down(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Destroying(End::Destroyed);
        self.backward(effects);
    }

    /// Undoes the last step that may have left something; the end when there is none.
    fn backward(&mut self, effects: &mut Vec<Effect>) {
        let State::Destroying(end) = self.state else { return };
        while let Some(seq) = self.steps.iter().rposition(|it| !it.state.is_clean()) {
            let planned = &self.plan.clone().steps[seq];
            match &self.steps[seq].state {
                StepState::Done { .. } | StepState::Faulted if planned.needs_undo(end) => {
                    self.send(seq, Way::Undo, effects);
                    return;
                }
                StepState::Done { .. } | StepState::Faulted | StepState::Resting { way: Way::Do } => {
                    let undo = planned.needs_undo(end) && matches!(self.steps[seq].state, StepState::Resting { .. });
                    self.steps[seq].state = if undo { StepState::Faulted } else { StepState::Undone };
                }
                StepState::Sent { .. } | StepState::Running { .. } | StepState::Resting { .. } => return,
                StepState::Planned | StepState::Undone | StepState::Abandoned => return,
            }
        }
        self.state = match end {
            End::Failed => State::Failed,
            End::Destroyed => State::Destroyed,
        };
        self.needs_attention = false;
    }

    fn abandoned(&self) -> Vec<u16> {
        let steps = self.steps.iter().enumerate().filter(|(_, it)| it.state == StepState::Abandoned);
        steps.filter_map(|(seq, _)| u16::try_from(seq).ok()).collect()
    }
}
