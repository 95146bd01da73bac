//! One unit of work: the operations that a transaction loads, what their events change, and the writing of it
//! all at the end, in few statements. Every change is guarded by what was read; a miss is `Failed::Conflict`.

use super::{
    bulk,
    loaded::Loaded,
    memory::Memory,
    rows::{Delivery, put_operation},
};
use crate::{
    config::Config,
    database::{Failed, Transaction},
    ledger::Ledger,
    machine::{Event, Operation, State, StepState},
    mutant::{self, Mutant},
    world::Surroundings,
    world_read,
};
use longshore_schema::{
    ids::OperationId,
    step::Attempt,
    tables::{history, message_seen, operation, outbox, step, tenant_user},
    time::Timestamp,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

/// A unit of work.
pub struct Unit<'t> {
    pub(crate) tx: &'t Transaction,
    pub(super) config: Config,
    pub(super) now: Timestamp,
    pub(crate) ledger: Ledger,
    pub(super) memory: &'t mut Memory,
    pub(super) operations: BTreeMap<OperationId, Loaded>,
    pub(super) outbox: Vec<outbox::Model>,
    /// Steps, and messages that needn't survive: sent after the commit, never stored.
    pub(super) passing: Vec<outbox::Model>,
    pub(super) history: Vec<history::Model>,
    /// Steps that left the broker's queue, and those that want in, by queue.
    pub(super) queues: BTreeMap<String, i32>,
    pub(super) unsent: BTreeSet<(OperationId, usize)>,
    /// Queues that are filled from the database even if nothing left them.
    pub(super) refilled: BTreeSet<String>,
    /// Places for whose space somebody waited who doesn't any more, without having got it.
    pub(super) left_line: BTreeSet<String>,
    /// The token of the start that is being absorbed: its answer has it too.
    pub(crate) start_token: Option<u64>,
    /// Events that follow from events.
    pub(super) next: VecDeque<(OperationId, Event)>,
    /// Zones and workers, read once.
    surroundings: Option<Surroundings>,
    has_users: Option<bool>,
    /// Commands that were answered, as far as they were asked for; and those answered now.
    pub(crate) seen: HashMap<SeenKey, Option<message_seen::Model>>,
    pub(super) answered: Vec<message_seen::Model>,
}

/// How far a step is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HowFar {
    /// Done.
    pub done: i64,
    /// In all, where known.
    pub total: Option<i64>,
}

/// How an object stands in a unit that has loaded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ready, and as it is in the database.
    Ready,
    /// Ready, and changed in this transaction: its row is guarded when it is written.
    ReadyHere,
    /// Not there yet, or not for long.
    Goes,
}

/// The tenant that a message names, its user and its id.
pub(crate) type SeenKey = (String, String, String);

impl<'t> Unit<'t> {
    /// An empty unit in a transaction.
    pub fn new(tx: &'t Transaction, memory: &'t mut Memory, config: Config, now: Timestamp) -> Unit<'t> {
        Unit {
            tx,
            config,
            now,
            ledger: Ledger::default(),
            memory,
            operations: BTreeMap::new(),
            outbox: vec![],
            passing: vec![],
            history: vec![],
            queues: BTreeMap::new(),
            unsent: BTreeSet::new(),
            refilled: BTreeSet::new(),
            left_line: BTreeSet::new(),
            start_token: None,
            next: VecDeque::new(),
            surroundings: None,
            has_users: None,
            seen: HashMap::new(),
            answered: vec![],
        }
    }

    /// The transaction.
    pub fn tx(&self) -> &'t Transaction {
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

    /// Whether what an attempt does is still wanted: its operation hasn't turned back since.
    pub fn wants(&self, attempt: Attempt) -> bool {
        let wanted = |it: &Loaded| mutant::is(Mutant::RenewUnwanted) || it.operation.wants(attempt.way);
        self.operations.get(&attempt.operation).is_some_and(wanted)
    }

    /// When the current attempt must be started at the latest, if it was sent.
    pub fn start_before(&self, attempt: Attempt) -> Option<i64> {
        self.operations.get(&attempt.operation)?.deliveries.get(usize::from(attempt.seq))?.start_before
    }

    /// Renews a running step whose start is of this transaction, and isn't written yet: so is the renewal, then.
    pub fn renew_unwritten(&mut self, attempt: Attempt, until: i64, far: HowFar) -> bool {
        let Some(loaded) = self.operations.get_mut(&attempt.operation).filter(|it| it.known.is_changed()) else { return false };
        loaded.deliveries[usize::from(attempt.seq)].renew(until, far);
        true
    }

    /// How far a step is, as last told.
    pub fn progress(&self, attempt: Attempt) -> HowFar {
        let known = self.operations.get(&attempt.operation).and_then(|it| it.deliveries.get(usize::from(attempt.seq)));
        known.map_or_else(HowFar::default, |it| HowFar { done: it.done_bytes, total: it.total_bytes })
    }

    /// A running step's row was renewed in this transaction.
    pub fn was_renewed(&mut self, attempt: Attempt, until: i64, far: HowFar) {
        let Some(loaded) = self.operations.get_mut(&attempt.operation) else { return };
        let seq = usize::from(attempt.seq);
        loaded.deliveries[seq].renew(until, far);
        let read = loaded.known.read_mut().into_iter().flat_map(|it| &mut it.steps);
        if let Some(row) = read.into_iter().find(|it| usize::try_from(it.seq) == Ok(seq)) {
            (row.due_at, row.done_bytes, row.total_bytes) = (Some(until), far.done, far.total);
        }
    }

    /// The transaction's time, by the database's clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Zones and workers, read once for all that is planned in this transaction; and what became Ready in it.
    pub async fn surroundings(&mut self) -> Result<Surroundings, Failed> {
        if self.surroundings.is_none() {
            self.surroundings = Some(world_read::surroundings(self.tx, self.now, self.config).await?);
        }
        let around = self.surroundings.clone().unwrap_or_default();
        Ok(Surroundings { fresh: Arc::new(self.fresh()?), ..around })
    }

    /// Rows, as they will be, of objects that became Ready in this transaction and were made from a volume, or into one.
    fn fresh(&self) -> anyhow::Result<Vec<operation::Model>> {
        let is_fresh = |it: &&Loaded| {
            let was_ready = it.known.read().is_some_and(|it| it.ready);
            it.row.subject.is_some() && it.operation.state == State::Ready && !it.operation.destroy_requested && !was_ready
        };
        let rows = self.operations.values().filter(is_fresh).map(|it| -> anyhow::Result<operation::Model> {
            let mut row = it.row.clone();
            put_operation(&mut row, &it.operation)?;
            Ok(row)
        });
        rows.collect()
    }

    /// Whether the site says which users there are; if not, everyone is the one tenant `default`.
    pub(crate) async fn has_users(&mut self) -> Result<bool, Failed> {
        if let Some(known) = self.has_users {
            return Ok(known);
        }
        let any = tenant_user::Entity::find().one(self.tx).await?.is_some();
        self.has_users = Some(any);
        Ok(any)
    }

    /// Reads together whether these commands were answered before.
    pub(crate) async fn look_up(&mut self, keys: Vec<SeenKey>) -> Result<(), Failed> {
        let keys: Vec<_> = keys.into_iter().filter(|it| !self.seen.contains_key(it)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        for row in bulk::seen(self.tx, &keys).await? {
            self.seen.insert((row.tenant.clone(), row.user_name.clone(), row.message_id.clone()), Some(row));
        }
        for key in keys {
            self.seen.entry(key).or_default();
        }
        Ok(())
    }

    /// Remembers how a command was answered, for ever.
    pub(crate) fn answered(&mut self, key: SeenKey, row: message_seen::Model) {
        self.seen.insert(key, Some(row.clone()));
        self.answered.push(row);
    }

    /// How an object stands that may be held: `None` if only the database knows. What is remembered isn't good enough.
    pub(crate) async fn standing(&mut self, id: OperationId) -> Result<Option<Standing>, Failed> {
        if !self.operations.contains_key(&id) {
            return Ok(None);
        }
        self.load([id]).await?;
        Ok(self.operations.get(&id).map(|it| match it.operation.state {
            State::Ready if it.operation.destroy_requested => Standing::Goes,
            State::Ready if it.known.is_changed() => Standing::ReadyHere,
            State::Ready => Standing::Ready,
            State::Allocated | State::Copying | State::Destroying(_) | State::Destroyed | State::Failed => Standing::Goes,
        }))
    }

    /// The database has one more hold on an object, from this transaction.
    pub(crate) fn was_held(&mut self, id: OperationId) {
        self.memory.take(id);
        if let Some(loaded) = self.operations.get_mut(&id) {
            loaded.take_hold();
        }
    }

    /// Loads the operations of attempts that end. What is remembered is good enough where it agrees with the report.
    pub async fn load_ending(&mut self, attempts: impl IntoIterator<Item = Attempt>) -> Result<(), Failed> {
        let mut unknown = vec![];
        for attempt in attempts {
            let id = attempt.operation;
            if self.operations.contains_key(&id) {
                continue;
            }
            let agrees = self.memory.get(id).is_some_and(|it| it.operation.current() == Some(attempt));
            match self.memory.take(id).filter(|_| agrees) {
                Some(loaded) => drop(self.operations.insert(id, loaded)),
                None => unknown.push(id),
            }
        }
        self.load(unknown).await
    }

    /// Loads the operations of steps that wait to be sent. What is remembered is good enough where it agrees.
    pub(super) async fn load_waiting(&mut self, rows: &[step::Model]) -> Result<(), Failed> {
        let mut unknown = vec![];
        for row in rows {
            let id = OperationId(row.operation_id);
            if self.operations.contains_key(&id) {
                continue;
            }
            let agrees = self.memory.get(id).and_then(|it| it.known.read()).is_some_and(|it| it.steps.contains(row));
            match self.memory.take(id).filter(|_| agrees) {
                Some(loaded) => drop(self.operations.insert(id, loaded)),
                None => unknown.push(id),
            }
        }
        self.load(unknown).await
    }

    /// Loads operations that aren't loaded yet. Unknown ids are left out.
    pub async fn load(&mut self, ids: impl IntoIterator<Item = OperationId>) -> Result<(), Failed> {
        let ids: Vec<_> = ids.into_iter().filter(|it| self.operations.get(it).is_none_or(|it| it.known.is_doubtful())).collect();
        self.read_again(ids).await
    }

    /// Loads operations, whether they are loaded or not; what was changed is lost.
    pub(super) async fn read_again(&mut self, ids: impl IntoIterator<Item = OperationId>) -> Result<(), Failed> {
        let ids: BTreeSet<_> = ids.into_iter().map(|it| it.0).collect();
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
            self.operations.insert(OperationId(row.id), Loaded::from_rows(row, steps)?);
        }
        Ok(())
    }

    /// A loaded operation.
    pub fn get(&self, id: OperationId) -> Option<&Loaded> {
        self.operations.get(&id)
    }

    /// Adds a new operation, before its first event.
    pub fn add(&mut self, row: operation::Model, operation: Operation) {
        self.operations.insert(operation.id, Loaded::new(row, operation));
    }

    /// Takes a new operation back, with everything that it caused in this unit.
    pub fn withdraw(&mut self, id: OperationId) {
        self.operations.remove(&id);
        self.history.retain(|it| it.operation_id != id.0);
        let of = |key: &str| key.starts_with(&id.to_string());
        self.outbox.retain(|it| !it.properties["message_id"].as_str().is_some_and(of));
        self.passing.retain(|it| !it.properties["message_id"].as_str().is_some_and(of));
        self.unsent.retain(|(operation, _)| *operation != id);
        self.next.retain(|(operation, _)| *operation != id);
    }

    pub(super) fn delivery(&mut self, id: OperationId, seq: u16) -> &mut Delivery {
        // The machine only names steps that exist.
        let loaded = self.operations.get_mut(&id).expect("an effect's operation is loaded");
        &mut loaded.deliveries[usize::from(seq)]
    }
}

impl Delivery {
    fn renew(&mut self, until: i64, far: HowFar) {
        (self.due_at, self.done_bytes, self.total_bytes) = (Some(until), far.done, far.total);
    }
}
