//! The state machine of an operation. Pure: no clock, no await, no database, no randomness. Everything that
//! changes an operation goes through `transition`; folding an operation's history through it gives its state.
//!
//! Steps are done first to last and undone last to first, one at a time. An undo covers the step that failed
//! half-way too. **Invariant**: nothing is sent again or undone while an attempt may still act; the events
//! `Reported`, `Unstarted` and `LeaseLost` are what says that it can't.

mod asked;
mod drive;
mod event;
mod step;
#[cfg(test)]
mod tests;

use crate::{
    mutant::{self, Mutant},
    plan::{EngineStep, Plan, Work},
};
pub use event::{Effect, Event, Ignored};
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
    /// A step that can't be given up, such as an undo, fails again and again.
    pub needs_attention: bool,
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
            operation.stop(operation.overdue(), &mut effects)?;
        }
        Event::CancelRequested => operation.stop(Fault::cancelled("the operation was cancelled"), &mut effects)?,
        Event::DestroyRequested { held } => operation.destroy(*held, &mut effects)?,
        Event::HoldsGone => operation.holds_gone(&mut effects)?,
        Event::RetryRequested => operation.retry(&mut effects)?,
        Event::AbandonRequested { reason } => operation.abandon(reason, &mut effects)?,
    }
    // A new operation is announced in any case.
    if operation.state != before && !effects.contains(&Effect::Announce) {
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

    /// Whether an attempt that goes this way is still wanted: what will be undone, or probed, isn't done any further.
    pub fn wants(&self, way: Way) -> bool {
        way != Way::Do || !(matches!(self.state, State::Destroying(_)) || self.stop.is_some())
    }

    /// The output of a step that was done.
    pub fn output_of(&self, seq: u16) -> Option<&Value> {
        self.steps.get(usize::from(seq))?.output.as_ref()
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
        self.done(usize::from(seq), output);
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
        let next = self.steps.iter().position(|it| !matches!(it.state, StepState::Done));
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
        if !self.wants(way) {
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
        self.needs_attention = false;
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
                self.done(seq, output);
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
        let hopeless = fault.class != Class::Transient || failures >= PATIENCE || mutant::is(Mutant::NoPatience);
        let over = match self.plan.waits_when_full().filter(|_| is_full(fault)) {
            // A place that is full by more than its ledger knows: to wait for it is what was asked for, or wasn't.
            Some(waits) => !waits,
            None => hopeless,
        };
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
            Way::Do if (over || self.stop.is_some()) && self.is_commit(seq) => {
                self.fault = Some(fault.clone());
                self.send(seq, Way::Probe, effects);
            }
            Way::Do if over && mutant::is(Mutant::CountFailedVerifies) && self.plan.steps[seq].name == "object.verify" => {
                self.done(seq, &Value::Null);
                self.forward(effects);
            }
            Way::Do if over => {
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
            match self.stop.take_if(|_| attempt.n == 1) {
                // The first attempt to commit: none took effect.
                Some(fault) => {
                    self.steps[seq].state = StepState::Planned;
                    self.turn_back(fault, effects);
                }
                None => self.send(seq, Way::Probe, effects),
            }
        } else if way == Way::Do {
            self.pause(seq, way, 0, effects);
        } else {
            // Nobody else will tell that there is no one left to undo it.
            self.steps[seq].failures += 1;
            self.needs_attention |= self.steps[seq].failures >= PATIENCE / 4;
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
}

/// Whether a place has no room.
fn is_full(fault: &Fault) -> bool {
    fault.class == Class::Transient && [code::POOL_FULL, code::STORE_FULL].contains(&fault.code.as_str())
}
