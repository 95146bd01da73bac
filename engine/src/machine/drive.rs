//! Going forward, first step to last, and back, last to first.

use super::{Effect, End, Ignored, Operation, State, StepState};
use crate::{
    mutant::{self, Mutant},
    plan::Work,
};
use longshore_schema::{
    fault::Fault,
    step::{Attempt, Way},
};
use serde_json::Value;

impl Operation {
    pub(super) fn expect_attempt(&self, attempt: Attempt) -> Result<usize, Ignored> {
        let seq = usize::from(attempt.seq);
        let current = self.attempt(seq).filter(|_| self.steps[seq].state.is_out());
        if mutant::is(Mutant::AcceptStaleReports) && current.is_some_and(|it| it.n > attempt.n) {
            return Ok(seq);
        }
        (current == Some(attempt)).then_some(seq).ok_or(Ignored::Stale)
    }

    pub(super) fn is_commit(&self, seq: usize) -> bool {
        self.plan.commit.is_some_and(|commit| usize::from(commit) == seq)
    }

    /// Whether the commit step is done: the operation will be finished, never undone.
    pub(super) fn is_committed(&self) -> bool {
        let commit = self.plan.commit.and_then(|seq| self.steps.get(usize::from(seq)));
        commit.is_some_and(|it| matches!(it.state, StepState::Done))
    }

    /// The commit step, if one of its attempts was sent and none reported success.
    pub(super) fn commit_under_way(&self) -> Option<usize> {
        let seq = usize::from(self.plan.commit?);
        match self.steps.get(seq)?.state {
            StepState::Sent { .. } | StepState::Running { .. } | StepState::Resting { .. } => Some(seq),
            StepState::Planned | StepState::Done | StepState::Faulted | StepState::Undone | StepState::Abandoned => None,
        }
    }

    /// Whether it is asked, or asked again after a pause, if the commit took effect.
    pub(super) fn is_probed(&self) -> bool {
        self.steps.iter().any(|it| it.state.way() == Some(Way::Probe))
    }

    pub(super) fn send(&mut self, seq: usize, way: Way, effects: &mut Vec<Effect>) {
        let track = &mut self.steps[seq];
        track.n += 1;
        track.state = StepState::Sent { way };
        if self.state == State::Allocated && !self.plan.steps[seq].looks {
            self.state = State::Copying;
        }
        effects.extend(self.attempt(seq).map(Effect::Send));
    }

    pub(super) fn pause(&mut self, seq: usize, way: Way, failures: u32, effects: &mut Vec<Effect>) {
        self.steps[seq].state = StepState::Resting { way };
        if let Some(now) = self.attempt(seq) {
            effects.push(Effect::Pause { attempt: Attempt { n: now.n + 1, ..now }, failures });
        }
    }

    pub(super) fn done(&mut self, seq: usize, output: &Value) {
        self.steps[seq].state = StepState::Done;
        self.steps[seq].output = Some(output.clone());
    }

    /// After a step was done: forward, or, if the operation turned back meanwhile, backward.
    pub(super) fn go_on(&mut self, effects: &mut Vec<Effect>) {
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
    pub(super) fn forward(&mut self, effects: &mut Vec<Effect>) {
        let next = self.steps.iter().position(|it| !matches!(it.state, StepState::Done));
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
    pub(super) fn turn_back(&mut self, fault: Fault, effects: &mut Vec<Effect>) {
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
    pub(super) fn tear_down(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Destroying(End::Destroyed);
        self.backward(effects);
    }

    /// Undoes the last step that may have left something; the end when there is none.
    pub(super) fn backward(&mut self, effects: &mut Vec<Effect>) {
        let State::Destroying(end) = self.state else { return };
        while let Some(seq) = self.steps.iter().rposition(|it| !it.state.is_clean()) {
            let needs_undo = self.plan.steps[seq].needs_undo(end);
            match &self.steps[seq].state {
                StepState::Faulted if mutant::is(Mutant::UndoOnlyFinished) => self.steps[seq].state = StepState::Undone,
                StepState::Done | StepState::Faulted if needs_undo => {
                    self.send(seq, Way::Undo, effects);
                    return;
                }
                StepState::Done | StepState::Faulted | StepState::Resting { way: Way::Do } => {
                    let undo = needs_undo && matches!(self.steps[seq].state, StepState::Resting { .. });
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

    pub(super) fn abandoned(&self) -> Vec<u16> {
        let steps = self.steps.iter().enumerate().filter(|(_, it)| it.state == StepState::Abandoned);
        steps.filter_map(|(seq, _)| u16::try_from(seq).ok()).collect()
    }
}
