//! What people ask of an operation: cancel, destroy, retry, abandon; and its deadline.

use super::{Effect, End, Ignored, Operation, State, StepState};
use crate::mutant::{self, Mutant};
use longshore_schema::{
    fault::{Fault, code},
    step::Way,
};

impl Operation {
    /// Cancel and deadline.
    pub(super) fn stop(&mut self, fault: Fault, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        match self.state {
            State::Allocated | State::Copying if self.is_committed() => Err(Ignored::TooLate),
            State::Ready => Err(Ignored::TooLate),
            State::Allocated | State::Copying => {
                if self.stop.is_some() {
                    return Err(Ignored::NoEffect);
                }
                match self.commit_under_way().filter(|_| !mutant::is(Mutant::CancelWithoutProbe)) {
                    Some(seq) => self.stop_commit(seq, fault, effects),
                    None => self.turn_back(fault, effects),
                }
                Ok(())
            }
            State::Destroying(_) | State::Destroyed | State::Failed => Err(Ignored::NoEffect),
        }
    }

    /// The fault of a deadline that passed, with what kept the operation from its end.
    pub(super) fn overdue(&self) -> Fault {
        let tried = self.steps.iter().zip(&self.plan.steps).find(|(it, _)| it.failures > 0 && it.state.way() == Some(Way::Do));
        let kept = match (&self.waiting_for, tried.and_then(|(it, planned)| Some((planned, it.fault.as_ref()?)))) {
            (Some(place), _) => format!(" while it waited for space in {place}"),
            (None, Some((planned, fault))) => format!(" while {} was tried again after {fault}", planned.name),
            (None, None) => String::new(),
        };
        Fault::permanent(code::DEADLINE_PASSED, format!("the operation's deadline passed{kept}"))
    }

    /// The commit step may take effect at any moment: only the probe can tell.
    pub(super) fn stop_commit(&mut self, seq: usize, fault: Fault, effects: &mut Vec<Effect>) {
        self.stop = Some(fault);
        match self.steps[seq].state {
            StepState::Resting { way: Way::Do } => self.send(seq, Way::Probe, effects),
            _ => effects.extend(self.attempt(seq).map(Effect::Abort)),
        }
    }

    pub(super) fn destroy(&mut self, held: bool, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        match self.state {
            State::Allocated | State::Copying => {
                match self.stop(Fault::cancelled("its destruction was asked for"), effects) {
                    // If the commit took effect all the same, it is destroyed once it is Ready.
                    Ok(()) => self.destroy_requested = self.stop.is_some(),
                    // It is past its commit, or a cancel or the deadline stopped it before: that may come too late, too.
                    Err(_) if !self.destroy_requested => self.destroy_requested = true,
                    Err(ignored) => return Err(ignored),
                }
                Ok(())
            }
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

    pub(super) fn holds_gone(&mut self, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        if self.state != State::Ready || !self.destroy_requested {
            return Err(Ignored::NoEffect);
        }
        self.tear_down(effects);
        Ok(())
    }

    pub(super) fn retry(&mut self, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        let resting = self.steps.iter().position(|it| matches!(it.state, StepState::Resting { .. }));
        let seq = resting.ok_or(Ignored::NoEffect)?;
        let StepState::Resting { way } = self.steps[seq].state else { return Err(Ignored::NoEffect) };
        self.needs_attention = false;
        self.steps[seq].failures = 0;
        self.send(seq, way, effects);
        Ok(())
    }

    pub(super) fn abandon(&mut self, reason: &str, effects: &mut Vec<Effect>) -> Result<(), Ignored> {
        if self.state == State::Ready && mutant::is(Mutant::AbandonWhatIsReady) {
            self.state = State::Destroying(End::Destroyed);
        }
        // A probe doesn't give up by itself either, whatever became of the host or the store.
        if self.state == State::Copying && self.is_probed() && !mutant::is(Mutant::ProbeForEver) {
            self.state = State::Destroying(End::Failed);
            self.stop = None;
        }
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
}
