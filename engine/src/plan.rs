//! A plan is data: a straight line of steps with the undo of each beside it, stored whole before anything is
//! done. Every name in it was chosen from the operation's id, so a step done twice leaves what once leaves.

use longshore_schema::{
    ids::OperationId,
    step::{Pace, Step},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::marker::PhantomData;

/// What an operation will do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Which path was chosen, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Choice>,
    /// In the order of their doing; undone last first.
    pub steps: Vec<Planned>,
    /// The step whose success is the point of no return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u16>,
    /// Outside names that only this operation may write; taken at intake.
    pub claims: Vec<String>,
    /// Objects that it uses; held from intake to its end.
    pub uses: Vec<OperationId>,
}

/// The row of the capability table that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// `direct` or `staged`.
    pub chosen: String,
    /// The row, and the policy where it mattered.
    pub because: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name, for people and for the history.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// What takes it back, if it may leave anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// Looks whether it took effect: only for the commit step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Call>,
    /// It only looks: the operation stays Allocated while nothing else was sent.
    #[serde(default)]
    pub looks: bool,
}

/// Who does a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The engine, inside the transaction that reaches it.
    Engine(EngineStep),
    /// A worker.
    Worker(Call),
}

/// What the engine does itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineStep {
    /// Books all the space that the operation needs, all or nothing.
    Reserve(Vec<Need>),
    /// Makes the object visible: its output is the operation's.
    Publish,
    /// `sweep-store`: chooses what goes, from what the listing step (by its place in the plan) found.
    Choose {
        /// The store.
        store: String,
        /// The listing step.
        listed: u16,
    },
    /// `sweep-store`: forgets what the store confirmed to be gone.
    Forget {
        /// The store.
        store: String,
        /// The choosing step.
        chosen: u16,
    },
}

/// Space that an operation needs in one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// The place's name.
    pub place: String,
    /// How much.
    pub amount: Amount,
    /// Whether the operation waits when there is no room, or fails.
    pub wait: bool,
}

/// A number of bytes, known now or from the report of an earlier step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Known when the plan is made: virtual size and bound on the bytes really written.
    Known {
        /// Booked.
        bytes: u64,
        /// At most so many are written.
        physical: u64,
    },
    /// The bound on a copy of what `volume.measure` (by its place in the plan) found.
    CopyOf {
        /// The measuring step.
        measured: u16,
        /// Bytes of an extent of the store.
        extent_size: u32,
    },
}

/// One worker step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// As in `longshore_schema::steps::NAMES`.
    pub step: String,
    /// Routing key on `longshore.steps`.
    pub queue: String,
    /// The step's struct.
    pub args: Value,
    /// Where its input comes from.
    pub input: Input,
    /// How it is watched.
    pub pace: Pace,
    /// The reserving step that says how much it may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_under: Option<u16>,
}

/// Where a step's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It has none.
    None,
    /// The output of an earlier step, by its place in the plan.
    Of(u16),
    /// The same for an undo: `null` if that step never reported.
    IfAny(u16),
}

/// What takes a step back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// How.
    pub call: Call,
    /// When.
    pub when: UndoWhen,
}

/// When an undo is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoWhen {
    /// Always: what the step made is the operation's alone.
    Always,
    /// Only if the operation never was Ready: afterwards what the step made is shared, and counted by its uses.
    NeverReady,
}

/// The output that a step will have; give it to a later step as its input.
#[derive(Debug)]
pub struct Output<T>(u16, PhantomData<fn() -> T>);

impl<T> Clone for Output<T> {
    fn clone(&self) -> Output<T> {
        *self
    }
}

impl<T> Copy for Output<T> {}

impl<T> Output<T> {
    /// The step's place in the plan.
    pub fn seq(self) -> u16 {
        self.0
    }

    /// As an undo's input: there if the step lived to report.
    pub fn if_any(self) -> Output<Option<T>> {
        Output(self.0 | IF_ANY, PhantomData)
    }
}

const IF_ANY: u16 = 1 << 15;

/// What may be a step's input: `()`, or the output of an earlier step.
pub trait Gives<T> {
    /// Where it comes from.
    fn input(self) -> Input;
}

impl Gives<()> for () {
    fn input(self) -> Input {
        Input::None
    }
}

impl<T> Gives<T> for Output<T> {
    fn input(self) -> Input {
        if self.0 & IF_ANY == 0 { Input::Of(self.0) } else { Input::IfAny(self.0 & !IF_ANY) }
    }
}

/// What an object's root and its `ready` take in a store, beside the root's own length.
pub const READY_BYTES: u64 = 1024;

/// How long a step that is one message each way may take.
pub const SHORT: Pace = Pace::Short { bound_s: 30 };

/// The lease of a long step.
pub const LONG: Pace = Pace::Long { lease_s: 30 };

/// A call of step `S`.
pub fn call<S: Step>(queue: &str, step: S, input: impl Gives<S::Input>, pace: Pace) -> Call {
    let args = serde_json::to_value(step).unwrap_or(Value::Null);
    Call { step: S::NAME.into(), queue: queue.into(), args, input: input.input(), pace, writes_under: None }
}

impl Plan {
    /// Whether space is booked for it.
    pub fn reserves(&self) -> bool {
        self.steps.iter().any(|it| matches!(it.work, Work::Engine(EngineStep::Reserve(_))))
    }

    /// Adds an engine step. Its output is known to the engine only.
    pub fn engine<T>(&mut self, name: &str, step: EngineStep) -> Output<T> {
        self.push(Planned { name: name.into(), work: Work::Engine(step), undo: None, probe: None, looks: true })
    }

    /// Adds a step that only looks.
    pub fn look<S: Step>(&mut self, queue: &str, step: S, input: impl Gives<S::Input>, pace: Pace) -> Output<S::Output> {
        let work = Work::Worker(call(queue, step, input, pace));
        self.push(Planned { name: S::NAME.into(), work, undo: None, probe: None, looks: true })
    }

    /// Adds a step that leaves nothing behind that its operation's failure would have to take back.
    pub fn step<S: Step>(&mut self, queue: &str, step: S, input: impl Gives<S::Input>, pace: Pace) -> Output<S::Output> {
        let work = Work::Worker(call(queue, step, input, pace));
        self.push(Planned { name: S::NAME.into(), work, undo: None, probe: None, looks: false })
    }

    /// Adds a step with what takes it back. The undo must work when the step died half-way.
    pub fn reversible<S: Step>(
        &mut self,
        queue: &str,
        step: S,
        input: impl Gives<S::Input>,
        pace: Pace,
        undo: impl FnOnce(Output<S::Output>) -> Undo,
    ) -> Output<S::Output> {
        let work = Work::Worker(call(queue, step, input, pace));
        let output = Output(self.next(), PhantomData);
        let undo = Some(undo(output));
        self.push(Planned { name: S::NAME.into(), work, undo, probe: None, looks: false })
    }

    /// The step added last writes no more than the reserving step granted.
    pub fn writes_under<T>(&mut self, reserve: Output<T>) {
        if let Some(Planned { work: Work::Worker(call), .. }) = self.steps.last_mut() {
            call.writes_under = Some(reserve.0);
        }
    }

    /// The success of the step added last is the point of no return; `probe` tells whether it took effect.
    pub fn commit(&mut self, probe: Call) {
        self.commit = self.next().checked_sub(1);
        if let Some(last) = self.steps.last_mut() {
            last.probe = Some(probe);
        }
    }

    /// Whether the operation waits when a place has no room for it, or fails; `None` if it needs no space.
    pub fn waits_when_full(&self) -> Option<bool> {
        let mut needs = self.steps.iter().filter_map(|it| match &it.work {
            Work::Engine(EngineStep::Reserve(needs)) => Some(needs),
            Work::Engine(_) | Work::Worker(_) => None,
        });
        needs.next().map(|first| first.iter().chain(needs.flatten()).all(|it| it.wait))
    }

    fn next(&self) -> u16 {
        u16::try_from(self.steps.len()).unwrap_or(u16::MAX)
    }

    fn push<T>(&mut self, planned: Planned) -> Output<T> {
        let seq = self.next();
        self.steps.push(planned);
        Output(seq, PhantomData)
    }
}
