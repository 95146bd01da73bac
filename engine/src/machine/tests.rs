//! The machine alone, against a small outside world: every schedule ends, and nothing is left behind.
//! A failure prints its seed; `SEED=n` runs that one alone.

use super::*;
use crate::plan::{Amount, Call, Input, Need, Planned, SHORT, Undo, UndoWhen};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

fn call(step: &str) -> Call {
    Call { step: step.into(), queue: "q".into(), args: json!({}), input: Input::None, pace: SHORT, writes_under: None }
}

fn worker(name: &str, undo: Option<UndoWhen>, looks: bool) -> Planned {
    let undo = undo.map(|when| Undo { call: call(&format!("un-{name}")), when });
    Planned { name: name.into(), work: Work::Worker(call(name)), undo, probe: None, looks }
}

fn engine(step: EngineStep) -> Planned {
    Planned { name: "engine".into(), work: Work::Engine(step), undo: None, probe: None, looks: true }
}

/// As a backup's: look, reserve, copy, commit, publish.
fn backup() -> Plan {
    let mut commit = worker("commit", Some(UndoWhen::Always), false);
    commit.probe = Some(call("probe"));
    let steps = vec![
        worker("measure", None, true),
        engine(EngineStep::Reserve(vec![])),
        worker("copy", Some(UndoWhen::NeverReady), false),
        commit,
        engine(EngineStep::Publish),
    ];
    Plan { steps, commit: Some(3), ..Plan::default() }
}

/// As a volume's: no point of no return.
fn volume() -> Plan {
    let steps = vec![
        engine(EngineStep::Reserve(vec![])),
        worker("write", Some(UndoWhen::Always), false),
        worker("publish", Some(UndoWhen::Always), false),
        worker("tidy", None, false),
        engine(EngineStep::Publish),
    ];
    Plan { steps, ..Plan::default() }
}

/// The outside: what each step left, who still acts, and what is on its way to the machine.
struct Outside {
    rng: StdRng,
    left: Vec<bool>,
    acting: Vec<Attempt>,
    coming: Vec<Event>,
    history: Vec<Event>,
    faults: u32,
}

impl Outside {
    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn apply(&mut self, operation: &mut Operation, event: Event) {
        let Ok(effects) = transition(operation, &event) else { return };
        self.history.push(event);
        for effect in effects {
            match effect {
                Effect::Send(attempt) => {
                    // Never two at once: the end of the one before was heard.
                    assert!(!self.acting.iter().any(|it| it.seq == attempt.seq), "{attempt:?} while {:?} acts", self.acting);
                    self.acting.push(attempt);
                }
                Effect::Pause { attempt, .. } => self.coming.push(Event::TimerFired { attempt }),
                Effect::Perform { seq } => {
                    let waits = self.chance(6);
                    let refused = self.chance(12);
                    let fault = Fault::transient(code::STORE_FULL, "full");
                    self.coming.push(match (waits, refused) {
                        (true, _) => Event::Refused { seq, fault, waits_for: Some("place".into()) },
                        (_, true) => Event::Refused { seq, fault, waits_for: None },
                        _ => Event::Performed { seq, output: json!({"seq": seq}) },
                    });
                }
                Effect::Abort(_) | Effect::Grant(_) | Effect::Announce | Effect::Release { .. } => (),
            }
        }
        if operation.waiting_for.is_some() {
            self.coming.push(Event::Woken);
        }
    }

    /// One attempt does something, perhaps half of it, perhaps twice, and reports, or falls silent.
    fn act(&mut self, operation: &Operation) {
        let at = self.rng.random_range(0..self.acting.len());
        let attempt = self.acting.swap_remove(at);
        let seq = usize::from(attempt.seq);
        let planned = &operation.plan.steps[seq];
        let silent = self.chance(6);
        let fails = self.faults > 0 && self.chance(4);
        self.faults -= u32::from(fails);
        let takes_effect = !fails || self.chance(2);
        let mut output = json!({"attempt": attempt.n});
        match attempt.way {
            Way::Do if takes_effect && !planned.looks => self.left[seq] = true,
            Way::Undo if takes_effect => self.left[seq] = false,
            Way::Probe => output = if self.left[seq] { output } else { Value::Null },
            Way::Do | Way::Undo => (),
        }
        let class = if self.chance(2) { Class::Permanent } else { Class::Transient };
        let fault = Fault { code: code::INTERNAL.into(), class, message: "made up".into(), retry_after_s: None };
        let result = if fails { Outcome::Fault(fault) } else { Outcome::Output(output) };
        let report = Event::Reported { attempt, worker: "w".into(), result };
        match silent {
            true => self.coming.push(Event::LeaseLost { attempt }),
            false => {
                self.coming.push(report.clone());
                if self.chance(3) {
                    self.coming.push(report);
                }
            }
        }
        if self.chance(5) {
            self.coming.push(Event::LeaseLost { attempt });
        }
    }
}

fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = if rng.random_bool(0.5) { backup() } else { volume() };
    let id = OperationId(uuid::Uuid::from_u64_pair(seed, rng.next_u64()));
    let mut operation = Operation::new(id, plan.clone());
    let left = vec![false; plan.steps.len()];
    let mut outside = Outside { rng, left, acting: vec![], coming: vec![], history: vec![], faults: 3 };
    for event in [Event::CancelRequested, Event::DestroyRequested { held: false }, Event::DeadlinePassed, Event::RetryRequested] {
        if outside.chance(5) {
            outside.coming.push(event);
        }
    }
    outside.apply(&mut operation, Event::Accepted);
    let mut is_to_go = false;
    for step in 0.. {
        assert!(step < 2_000, "seed {seed}: it doesn't end: {operation:#?}");
        let (coming, acting) = (outside.coming.len(), outside.acting.len());
        if coming + acting == 0 {
            break;
        }
        if outside.rng.random_range(0..coming + acting) < coming {
            let at = outside.rng.random_range(0..coming);
            let event = outside.coming.swap_remove(at);
            is_to_go |= matches!(event, Event::DestroyRequested { .. });
            // A destroy recorded earlier is done at Ready.
            outside.apply(&mut operation, event);
            if operation.state == State::Ready && operation.destroy_requested {
                outside.apply(&mut operation, Event::HoldsGone);
            }
        } else {
            outside.act(&operation);
        }
    }
    assert!(!operation.needs_attention, "seed {seed}: it is over and asks for attention");
    let mut replayed = Operation::new(id, plan);
    for event in &outside.history {
        transition(&mut replayed, event).unwrap();
    }
    assert_eq!(replayed, operation, "seed {seed}: the history gives another state");
    match operation.state {
        State::Ready => {
            assert!(operation.steps.iter().all(|it| matches!(it.state, StepState::Done)), "seed {seed}");
            assert!(!is_to_go, "seed {seed}: its destruction was asked for, and it stays");
        }
        State::Failed | State::Destroyed => {
            for (seq, planned) in operation.plan.steps.iter().enumerate() {
                let ours =
                    planned.undo.as_ref().is_some_and(|it| it.when == UndoWhen::Always || operation.state == State::Failed);
                assert!(!(ours && outside.left[seq]), "seed {seed}: {} is left behind in {:?}", planned.name, operation.state);
            }
            assert!(operation.state == State::Destroyed || operation.fault.is_some(), "seed {seed}: it failed without a fault");
        }
        State::Allocated | State::Copying | State::Destroying(_) => panic!("seed {seed}: stuck in {operation:#?}"),
    }
}

#[test]
fn every_schedule_ends_and_leaves_nothing_behind() {
    if let Ok(seed) = std::env::var("SEED") {
        return run(seed.parse().unwrap());
    }
    for seed in 0..20_000 {
        run(seed);
    }
}

fn report(operation: &Operation, result: Outcome) -> Event {
    Event::Reported { attempt: operation.current().unwrap(), worker: "w".into(), result }
}

fn ok() -> Outcome {
    Outcome::Output(json!({}))
}

fn started(plan: Plan) -> Operation {
    let mut operation = Operation::new(OperationId::new(), plan);
    transition(&mut operation, &Event::Accepted).unwrap();
    operation
}

#[test]
fn a_new_operation_is_announced_once_whatever_follows_from_its_acceptance() {
    for first in [Some(worker("measure", None, true)), Some(worker("verify", None, false)), None] {
        let steps = first.into_iter().chain([engine(EngineStep::Publish)]).collect();
        let mut operation = Operation::new(OperationId::new(), Plan { steps, ..Plan::default() });
        let effects = transition(&mut operation, &Event::Accepted).unwrap();
        assert_eq!(effects.iter().filter(|it| **it == Effect::Announce).count(), 1, "{:?}: {effects:?}", operation.state);
    }
}

#[test]
fn a_cancel_while_only_looking_fails_at_once() {
    let mut operation = started(backup());
    let late = report(&operation, ok());
    transition(&mut operation, &Event::CancelRequested).unwrap();
    assert_eq!(operation.state, State::Failed);
    assert_eq!(transition(&mut operation, &late), Err(Ignored::Stale));
}

#[test]
fn a_cancel_waits_for_the_attempt_under_way_and_then_undoes_it() {
    let mut operation = started(volume());
    transition(&mut operation, &Event::Performed { seq: 0, output: json!({}) }).unwrap();
    let write = operation.current().unwrap();
    let effects = transition(&mut operation, &Event::CancelRequested).unwrap();
    assert_eq!(effects, [Effect::Abort(write), Effect::Announce]);
    let effects = transition(&mut operation, &Event::LeaseLost { attempt: write }).unwrap();
    assert_eq!(effects, [Effect::Send(Attempt { n: 2, way: Way::Undo, ..write })]);
    let done = report(&operation, ok());
    transition(&mut operation, &done).unwrap();
    assert_eq!(operation.state, State::Failed);
    assert_eq!(operation.fault.unwrap().code, code::CANCELLED);
}

/// A backup whose commit step is on its way.
fn committing() -> Operation {
    let mut operation = started(backup());
    let measured = report(&operation, ok());
    transition(&mut operation, &measured).unwrap();
    transition(&mut operation, &Event::Performed { seq: 1, output: json!({}) }).unwrap();
    let copied = report(&operation, ok());
    transition(&mut operation, &copied).unwrap();
    assert_eq!(operation.current().unwrap().seq, 3);
    operation
}

#[test]
fn after_a_cancel_during_the_commit_the_probe_decides() {
    for (found, end) in [(Value::Null, State::Destroying(End::Failed)), (json!({}), State::Copying)] {
        let mut operation = committing();
        let commit = operation.current().unwrap();
        transition(&mut operation, &Event::CancelRequested).unwrap();
        assert_eq!(operation.state, State::Copying);
        let effects = transition(&mut operation, &Event::LeaseLost { attempt: commit }).unwrap();
        assert!(matches!(effects[..], [Effect::Pause { .. }] | [Effect::Send(_)]), "{effects:?}");
        assert_eq!(operation.current().unwrap().way, Way::Probe);
        let probed = report(&operation, Outcome::Output(found));
        transition(&mut operation, &probed).unwrap();
        assert_eq!(operation.state, end);
    }
}

/// Found by the simulation (seed 120603): past its deadline an operation hung on the store, although its commit had never been sent.
#[test]
fn a_commit_of_which_no_attempt_ever_began_needs_no_probe() {
    let stops = [Event::CancelRequested, Event::DeadlinePassed, Event::DestroyRequested { held: false }];
    for (stop, again) in stops.into_iter().flat_map(|it| [(it.clone(), false), (it, true)]) {
        let mut operation = committing();
        if again {
            let failed = report(&operation, Outcome::Fault(Fault::transient(code::STORE_UNAVAILABLE, "503")));
            let effects = transition(&mut operation, &failed).unwrap();
            let [Effect::Pause { attempt, .. }] = effects[..] else { panic!("{effects:?}") };
            transition(&mut operation, &Event::TimerFired { attempt }).unwrap();
        }
        let commit = operation.current().unwrap();
        let effects = transition(&mut operation, &stop).unwrap();
        assert_eq!(effects, [Effect::Abort(commit)]);
        transition(&mut operation, &Event::Unstarted { attempt: commit }).unwrap();
        let next = operation.current().unwrap();
        match again {
            true => assert_eq!((operation.state, next.seq, next.way), (State::Copying, 3, Way::Probe), "an earlier one may have"),
            false => {
                assert_eq!((operation.state, next.seq, next.way), (State::Destroying(End::Failed), 2, Way::Undo), "{stop:?}");
                assert!(operation.fault.is_some() && operation.stop.is_none());
            }
        }
    }
}

#[test]
fn past_the_point_of_no_return_a_cancel_is_too_late_and_a_destroy_is_recorded() {
    let mut operation = committing();
    let done = report(&operation, ok());
    transition(&mut operation, &done).unwrap();
    assert_eq!(transition(&mut operation, &Event::CancelRequested), Err(Ignored::TooLate));
    assert_eq!(transition(&mut operation, &Event::DeadlinePassed), Err(Ignored::TooLate));
    transition(&mut operation, &Event::DestroyRequested { held: false }).unwrap();
    assert!(operation.destroy_requested && operation.state == State::Copying);
    transition(&mut operation, &Event::Performed { seq: 4, output: json!({}) }).unwrap();
    assert_eq!(operation.state, State::Ready);
    transition(&mut operation, &Event::HoldsGone).unwrap();
    assert_eq!(operation.state, State::Destroying(End::Destroyed));
}

/// Found by the simulation: `destroy` was answered "accepted", and forgotten.
#[test]
fn a_destroy_counts_although_a_cancel_or_the_deadline_already_stops_the_commit() {
    for stop in [Event::CancelRequested, Event::DeadlinePassed, Event::DestroyRequested { held: false }] {
        let again = matches!(stop, Event::DestroyRequested { .. });
        let mut operation = committing();
        let commit = operation.current().unwrap();
        transition(&mut operation, &stop).unwrap();
        let destroy = transition(&mut operation, &Event::DestroyRequested { held: false });
        assert_eq!(destroy, if again { Err(Ignored::NoEffect) } else { Ok(vec![]) });
        let failed = Event::Reported { attempt: commit, worker: "w".into(), result: Outcome::Fault(Fault::cancelled("asked")) };
        transition(&mut operation, &failed).unwrap();
        let probed = report(&operation, ok());
        transition(&mut operation, &probed).unwrap();
        transition(&mut operation, &Event::Performed { seq: 4, output: json!({}) }).unwrap();
        assert!(operation.state == State::Ready && operation.destroy_requested, "after {stop:?}");
        transition(&mut operation, &Event::HoldsGone).unwrap();
        assert_eq!(operation.state, State::Destroying(End::Destroyed));
    }
}

#[test]
fn an_undo_does_not_give_up_and_asks_for_attention() {
    let mut operation = started(volume());
    transition(&mut operation, &Event::Performed { seq: 0, output: json!({}) }).unwrap();
    let fault = || Outcome::Fault(Fault::permanent(code::POOL_UNREACHABLE, "gone"));
    let failed = report(&operation, fault());
    transition(&mut operation, &failed).unwrap();
    for _ in 0..200 {
        let failed = report(&operation, fault());
        let effects = transition(&mut operation, &failed).unwrap();
        let [Effect::Pause { attempt, .. }] = effects[..] else { panic!("{effects:?}") };
        transition(&mut operation, &Event::TimerFired { attempt }).unwrap();
    }
    assert!(operation.needs_attention);
    transition(&mut operation, &Event::AbandonRequested { reason: "the host burned".into() }).unwrap();
    assert_eq!(operation.state, State::Failed);
    assert_eq!(operation.abandoned(), [1]);
}

/// Its host burned, or its store was deleted, after the commit was sent: only somebody who knows that can end it.
#[test]
fn who_can_never_be_told_whether_the_commit_took_effect_can_abandon_it() {
    let gone = || Outcome::Fault(Fault::permanent(code::STORE_MISSING, "the bucket is gone"));
    let mut operation = committing();
    let abandon = Event::AbandonRequested { reason: "the bucket was deleted".into() };
    assert_eq!(transition(&mut operation.clone(), &abandon), Err(Ignored::NoEffect), "it is being committed");
    let failed = report(&operation, gone());
    transition(&mut operation, &failed).unwrap();
    transition(&mut operation, &Event::CancelRequested).unwrap();
    let resting = {
        let mut resting = operation.clone();
        let failed = report(&resting, gone());
        transition(&mut resting, &failed).unwrap();
        resting
    };
    for mut operation in [operation, resting] {
        let probe = operation.current();
        let effects = transition(&mut operation, &abandon).unwrap();
        assert_eq!(operation.state, State::Failed);
        assert_eq!(operation.fault, Some(Fault::permanent(code::ABANDONED, "the bucket was deleted")));
        assert!(effects.contains(&Effect::Release { remains: vec![2, 3] }), "{effects:?}");
        assert!(probe.is_none_or(|it| effects.contains(&Effect::Abort(it))), "{effects:?}");
        assert_eq!(transition(&mut operation, &abandon), Err(Ignored::NoEffect));
    }
}

#[test]
fn an_undo_that_nobody_starts_asks_for_attention_until_somebody_does() {
    let mut operation = started(volume());
    transition(&mut operation, &Event::Performed { seq: 0, output: json!({}) }).unwrap();
    let failed = report(&operation, Outcome::Fault(Fault::permanent(code::POOL_UNREACHABLE, "gone")));
    transition(&mut operation, &failed).unwrap();
    let mut waits = 0;
    while !operation.needs_attention {
        let attempt = operation.current().unwrap();
        assert_eq!(attempt.way, Way::Undo);
        let effects = transition(&mut operation, &Event::Unstarted { attempt }).unwrap();
        let [Effect::Pause { attempt, failures: 0 }] = effects[..] else { panic!("{effects:?}") };
        transition(&mut operation, &Event::TimerFired { attempt }).unwrap();
        waits += 1;
    }
    // The failure that made it turn back counts too.
    assert_eq!(waits + 1, PATIENCE / 4, "not when workers are busy for a moment");
    let undone = report(&operation, ok());
    transition(&mut operation, &undone).unwrap();
    assert_eq!((operation.state, operation.needs_attention), (State::Failed, false));
}

#[test]
fn a_probe_that_failed_and_then_found_the_commit_asks_for_attention_no_more() {
    let mut operation = committing();
    // The commit fails for good, and nobody can look whether it took effect.
    for _ in 0..2 {
        let failed = report(&operation, Outcome::Fault(Fault::permanent(code::STORE_DENIED, "403")));
        transition(&mut operation, &failed).unwrap();
    }
    assert!(operation.needs_attention && operation.state == State::Copying);
    transition(&mut operation, &Event::RetryRequested).unwrap();
    let failed = report(&operation, Outcome::Fault(Fault::permanent(code::STORE_DENIED, "403")));
    let effects = transition(&mut operation, &failed).unwrap();
    let [Effect::Pause { attempt, .. }] = effects[..] else { panic!("{effects:?}") };
    transition(&mut operation, &Event::TimerFired { attempt }).unwrap();
    assert!(operation.needs_attention);
    let found = report(&operation, ok());
    transition(&mut operation, &found).unwrap();
    transition(&mut operation, &Event::Performed { seq: 4, output: json!({}) }).unwrap();
    assert_eq!((operation.state, operation.needs_attention), (State::Ready, false));
}

#[test]
fn a_transient_fault_with_a_cancel_during_the_commit_goes_to_the_probe() {
    let mut operation = committing();
    transition(&mut operation, &Event::CancelRequested).unwrap();
    let failed = report(&operation, Outcome::Fault(Fault::transient(code::STORE_UNAVAILABLE, "503")));
    transition(&mut operation, &failed).unwrap();
    assert_eq!(operation.current().unwrap().way, Way::Probe);
}

/// A backup whose copy is on its way, and that waits for space or doesn't.
fn copying(wait: bool) -> Operation {
    let need = Need { place: "main".into(), amount: Amount::Known { bytes: 1, physical: 1 }, wait };
    let mut plan = backup();
    plan.steps[1] = engine(EngineStep::Reserve(vec![need]));
    let mut operation = started(plan);
    let measured = report(&operation, ok());
    transition(&mut operation, &measured).unwrap();
    transition(&mut operation, &Event::Performed { seq: 1, output: json!({}) }).unwrap();
    operation
}

fn full() -> Outcome {
    Outcome::Fault(Fault::transient(code::STORE_FULL, "no space left"))
}

#[test]
fn a_copy_that_meets_a_full_store_goes_back_at_once_if_it_was_not_to_wait() {
    let mut operation = copying(false);
    let copy = operation.current().unwrap();
    let met = report(&operation, full());
    let effects = transition(&mut operation, &met).unwrap();
    assert_eq!(effects, [Effect::Send(Attempt { n: 2, way: Way::Undo, ..copy }), Effect::Announce]);
    // Its undo waits for what it needs, and needs no attention for that yet.
    let met = report(&operation, full());
    transition(&mut operation, &met).unwrap();
    assert!(!operation.needs_attention);
    let again = operation.steps[2].n + 1;
    transition(&mut operation, &Event::TimerFired { attempt: Attempt { n: again, way: Way::Undo, ..copy } }).unwrap();
    let undone = report(&operation, ok());
    transition(&mut operation, &undone).unwrap();
    assert_eq!((operation.state, operation.fault.unwrap().code.as_str()), (State::Failed, code::STORE_FULL));
}

#[test]
fn a_copy_that_is_to_wait_for_a_full_store_does_so_until_its_deadline_which_says_why() {
    let mut operation = copying(true);
    for _ in 0..3 * PATIENCE {
        let met = report(&operation, full());
        let effects = transition(&mut operation, &met).unwrap();
        let [Effect::Pause { attempt, .. }] = effects[..] else { panic!("{effects:?}") };
        transition(&mut operation, &Event::TimerFired { attempt }).unwrap();
    }
    let met = report(&operation, full());
    transition(&mut operation, &met).unwrap();
    transition(&mut operation, &Event::DeadlinePassed).unwrap();
    let fault = operation.fault.unwrap();
    assert_eq!(fault.code, code::DEADLINE_PASSED);
    assert_eq!(fault.message, "the operation's deadline passed while copy was tried again after store.full: no space left");
}

#[test]
fn a_deadline_says_what_was_waited_for() {
    let mut operation = started(volume());
    let fault = Fault::transient(code::POOL_FULL, "full");
    transition(&mut operation, &Event::Refused { seq: 0, fault, waits_for: Some("fast".into()) }).unwrap();
    transition(&mut operation, &Event::DeadlinePassed).unwrap();
    assert_eq!(operation.fault.unwrap().message, "the operation's deadline passed while it waited for space in fast");
    let mut operation = started(volume());
    transition(&mut operation, &Event::DeadlinePassed).unwrap();
    assert_eq!(operation.fault.unwrap().message, "the operation's deadline passed");
}
