//! One schedule: what is asked for, what may go wrong, and the loop that takes the next thing that happens. Time
//! goes on only from one happening to the next.

use super::{
    broker::Broker,
    choices::{At, Choices, Focus},
    closing::Closing,
    engines::Engine,
    handing::Ask,
    mutants::Bug,
    setup::{GRACE_S, Place, SHORT_GRACE_S, START, WORKERS},
    workers::Worker,
    world::World,
};
use longshore_engine::{config::Config, journal::Item};
use longshore_schema::{
    ids::OperationId,
    step::StepMessage,
    tables::outbox,
    wire::{Control, Reply, Report},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// More happenings after the last fault than any schedule that ends has. (Each fault may keep the only engine away for
/// a minute, in which workers go on renewing their leases.)
const ENDLESS: u32 = 10_000;

/// How a schedule is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Commands at most; `None`: up to eight, as the seed says.
    pub operations: Option<u64>,
    /// Numbers of faults that are left out.
    pub without_faults: BTreeSet<u32>,
    /// Numbers of commands that are left out.
    pub without_commands: BTreeSet<usize>,
    /// What is wrong on purpose.
    pub bug: Option<Bug>,
    /// Keep a trace.
    pub trace: bool,
}

/// What a schedule did.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// Transactions.
    pub commits: u32,
    /// Commands that were asked for.
    pub commands: usize,
    /// Faults that happened or were left out.
    pub faults: u32,
    /// Operations that were accepted.
    pub operations: usize,
    /// How often what happened, by name: commands by their kind, states with the kind of their operation, and others.
    pub mix: BTreeMap<String, u64>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// A schedule that showed something wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What is wrong.
    pub wrong: Vec<String>,
    /// What it did.
    pub ran: Ran,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// The control plane publishes this command.
    Asks(usize),
    /// A message arrives at an engine.
    Inbound(Item, bool),
    /// An engine absorbs what it has.
    Absorb(usize, u32),
    /// An engine's relay publishes.
    Publish(usize, u32, Vec<outbox::Model>, Vec<outbox::Model>),
    /// An engine's relay deletes what was confirmed, if no transaction did.
    Delete(usize, u32),
    /// An engine acknowledges.
    Ack(usize, u32, Vec<u64>),
    /// An engine's clock ticks.
    Tick,
    /// An engine starts again.
    EngineStarts(usize),
    /// A step arrives at a worker.
    Step(Arc<StepMessage>, bool, Option<i64>),
    /// A word arrives at a worker's process.
    Word(usize, u32, Arc<Control>),
    /// A worker's process does the next thing about an attempt.
    Work(usize, u32, u64),
    /// A worker's process says again that it wants to start.
    Want(usize, u32, u64),
    /// A worker's process renews its leases.
    Renew(usize, u32),
    /// A worker's process publishes a report.
    Report(usize, u32, Arc<Report>, Option<u64>),
    /// A worker's process starts again.
    WorkerStarts(usize),
    /// A worker's process notices that its connection is gone.
    Notices(usize, u32),
    /// The control plane asks again unless it was answered.
    AsksAgain(usize),
    /// The control plane gets the answer to the command with that message id.
    Answer(String, Box<Reply>),
    /// Somebody gets the event with that id.
    Event(String),
    /// What a host had begun before it was stopped takes effect.
    Late(Box<super::job::Job>),
}

/// Everything of one schedule.
pub(super) struct Simulation<'p> {
    pub(super) place: &'p Place,
    pub(super) config: Config,
    pub(super) bug: Option<Bug>,
    pub(super) choices: Choices,
    pub(super) now: i64,
    pub(super) happenings: BTreeMap<(i64, u64), Happening>,
    pub(super) order: u64,
    pub(super) tick_at: Option<i64>,
    pub(super) asks: Vec<Ask>,
    pub(super) engines: Vec<Engine>,
    pub(super) workers: Vec<Worker>,
    pub(super) broker: Broker,
    pub(super) world: World,
    pub(super) known: super::known::Known,
    pub(super) closing: Closing,
    /// The grace is longer than anything comes late, so some things do.
    pub(super) waits_for_late: bool,
    pub(super) wrong: Vec<String>,
    pub(super) trace: Option<Vec<String>>,
    pub(super) names: BTreeMap<OperationId, String>,
    pub(super) commits: u32,
}

/// Runs one schedule.
pub async fn run(place: &Place, seed: u64, options: &Options) -> Result<Ran, Failure> {
    let mut simulation = Simulation::new(place, seed, options);
    let broken = simulation.play(options).await.err().map(|error| format!("{error:#}"));
    simulation.wrong.extend(broken);
    let ran = Ran {
        commits: simulation.commits,
        commands: simulation.asks.len(),
        faults: simulation.choices.faults(),
        operations: simulation.names.len(),
        mix: std::mem::take(&mut simulation.known.mix),
        trace: simulation.trace.take().unwrap_or_default(),
    };
    if simulation.wrong.is_empty() { Ok(ran) } else { Err(Failure { wrong: simulation.wrong, ran }) }
}

impl<'p> Simulation<'p> {
    fn new(place: &'p Place, seed: u64, options: &Options) -> Simulation<'p> {
        let mut choices = Choices::new(seed, options.without_faults.clone(), options.bug.and_then(Bug::shows_in));
        let budget = choices.below(At::Plan, 9);
        choices.allow(budget as u32);
        let engines = 1 + choices.below(At::Plan, 3) as usize;
        let config = Config {
            queue_depth: 1 + choices.below(At::Plan, 4) as i32,
            jitter: 0.0,
            batch: 1 + choices.below(At::Plan, 8) as usize,
            sweep_every_s: 60,
            deadline_s: 3000,
            worker_silence_s: 1_000_000,
            ..Config::default()
        };
        let workers = 1 + choices.below(At::Plan, WORKERS.len() as u64) as usize;
        let trace = options.trace.then(Vec::new);
        Simulation {
            place,
            config,
            bug: options.bug,
            choices,
            now: START,
            happenings: BTreeMap::new(),
            order: 0,
            tick_at: None,
            asks: vec![],
            engines: vec![Engine::default(); engines],
            workers: (0..workers).map(Worker::new).collect(),
            broker: Broker::default(),
            world: World::default(),
            known: Default::default(),
            closing: Closing::Never,
            waits_for_late: true,
            wrong: vec![],
            trace,
            names: BTreeMap::new(),
            commits: 0,
        }
    }

    async fn play(&mut self, options: &Options) -> anyhow::Result<()> {
        longshore_engine::mutant::set(self.bug.and_then(Bug::in_engine));
        // Between one and four of the largest things fit.
        let most = if self.choices.is_about(Focus::Waits) { 1 } else { 4 };
        let [store, pool] = [1, 1].map(|least: u64| least + self.choices.below(At::Plan, most));
        let grace_s = if self.choices.one_in(At::Plan, 2) { SHORT_GRACE_S } else { GRACE_S };
        self.waits_for_late = grace_s == GRACE_S;
        self.place.empty(store * 2_400_000, pool * 2_200_000, grace_s)?;
        self.ask_for(options);
        if self.choices.one_in(At::Plan, 2) {
            self.closing = Closing::Planned;
        }
        let (mut faults, mut since) = (0, 0);
        loop {
            if self.choices.faults() != faults {
                (faults, since) = (self.choices.faults(), 0);
            }
            // While a store is away, all that need it try again and again.
            let endless = if self.world.away_until > 0 { 4 * ENDLESS } else { ENDLESS };
            if since > endless {
                let waiting = self.happenings.len();
                self.wrong.push(format!("it doesn't end: {endless} happenings since the last fault, {waiting} wait"));
            }
            since += 1;
            if !self.wrong.is_empty() {
                return Ok(());
            }
            let Some(((at, _), happening)) = self.happenings.pop_first() else {
                if self.close() {
                    continue;
                }
                break;
            };
            self.now = self.now.max(at);
            self.world.now = self.now;
            self.place.clock.store(self.now, Relaxed);
            if let Happening::Word(worker, ..)
            | Happening::Work(worker, ..)
            | Happening::Want(worker, ..)
            | Happening::Renew(worker, ..)
            | Happening::Report(worker, ..) = happening
                && let Some(until) = self.stalled(worker)
            {
                self.after(until - self.now, happening);
                continue;
            }
            self.happens(happening).await?;
            self.wrong.append(&mut self.world.wrong);
        }
        self.check_end().await
    }

    async fn happens(&mut self, happening: Happening) -> anyhow::Result<()> {
        match happening {
            Happening::Asks(which) => self.asks(which),
            Happening::Inbound(item, again) => self.arrives(item, again),
            Happening::Absorb(engine, epoch) if self.lives(engine, epoch) => self.absorb(engine).await,
            Happening::Publish(engine, epoch, rows, passing) if self.lives(engine, epoch) => self.publish(engine, rows, passing),
            Happening::Delete(engine, epoch) if self.lives(engine, epoch) => self.delete(engine).await?,
            Happening::Ack(engine, epoch, deliveries) if self.lives(engine, epoch) => self.ack(engine, deliveries),
            Happening::Tick => self.tick().await?,
            Happening::EngineStarts(engine) => self.engines[engine].alive = true,
            Happening::Step(message, again, expires) => self.step_arrives(&message, again, expires),
            Happening::Word(worker, process, control) if self.runs(worker, process) => self.obey(worker, &control),
            Happening::Work(worker, process, hand) if self.runs(worker, process) => self.work(worker, hand),
            Happening::Want(worker, process, hand) if self.runs(worker, process) => self.want(worker, hand),
            Happening::Renew(worker, process) if self.runs(worker, process) => self.renew(worker),
            Happening::Report(worker, process, report, hand) if self.runs(worker, process) => self.report(worker, report, hand),
            Happening::WorkerStarts(worker) => self.worker_starts(worker),
            Happening::Notices(worker, process) if self.runs(worker, process) => self.notices(worker),
            Happening::AsksAgain(which) => self.asks_again(which),
            Happening::Answer(message_id, reply) => self.hears(message_id, &reply),
            Happening::Event(id) => drop(self.known.announced.insert(id)),
            Happening::Late(mut job) => self.late(&mut job),
            Happening::Absorb(..)
            | Happening::Publish(..)
            | Happening::Delete(..)
            | Happening::Ack(..)
            | Happening::Word(..)
            | Happening::Work(..)
            | Happening::Want(..)
            | Happening::Renew(..)
            | Happening::Notices(..)
            | Happening::Report(..) => (), // It died with its process.
        }
        Ok(())
    }

    /// It happens after so many microseconds.
    pub(super) fn after(&mut self, delay: i64, happening: Happening) {
        self.order += 1;
        self.happenings.insert((self.now + delay.max(1), self.order), happening);
    }

    /// It happens soon, or not so soon.
    pub(super) fn soon(&mut self, happening: Happening) {
        let delay = self.choices.delay();
        self.after(delay, happening);
    }

    /// For people.
    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = (self.now - START) as f64 / 1e6;
            let mut line = format!("{at:9.3} {}", what());
            for (id, name) in &self.names {
                line = line.replace(&id.to_string(), name);
            }
            trace.push(line);
        }
    }
}
