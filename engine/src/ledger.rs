//! The ledger: the only part that grants space. Decisions are taken on what was read; at the end of a
//! transaction each place's row is updated once, guarded by its limits, so that of any number of transactions
//! racing for the last bytes exactly those that fit commit. A refused guard is a conflict: read again.

mod shortage;

use crate::{
    database::{Failed, Transaction},
    mutant::{self, Mutant},
};
use longshore_schema::tables::{operation, place};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
pub use shortage::Shortage;
use std::collections::{BTreeMap, BTreeSet};

/// Changes of places in one transaction.
#[derive(Debug, Default)]
pub struct Ledger {
    places: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    row: place::Model,
    reserved: i64,
    used: i64,
    promised: i64,
    /// Whether the limits have to be checked again when the row is written.
    granted: bool,
    /// Whether something was given back, also if somebody else got it since.
    freed: bool,
}

/// Bytes of a place that may be booked.
pub fn limit(place: &place::Model) -> i64 {
    (place.total as f64 * place.overcommit * place.threshold) as i64
}

/// Bytes of a place that may really be written. No worker measures a place yet (`measured_at` stays empty): until one does,
/// only what is booked counts.
fn physical_limit(place: &place::Model) -> i64 {
    (place.total as f64 * place.threshold) as i64
}

/// Bytes of a place that can still be granted; less than none after its limit was lowered.
pub fn left(place: &place::Model) -> i64 {
    let by_booking = limit(place) - place.reserved - place.used;
    if place.measured_at.is_none() {
        return by_booking;
    }
    Ord::min(by_booking, physical_limit(place) - place.physical_used - place.promised)
}

impl Entry {
    fn left(&self) -> i64 {
        let mut changed = self.row.clone();
        changed.reserved += self.reserved;
        changed.used += self.used;
        changed.promised += self.promised;
        left(&changed)
    }
}

impl Ledger {
    /// Books `bytes` of a place. `ahead`: operations that wait for the same place and come first.
    pub async fn reserve(
        &mut self,
        tx: &Transaction,
        place: &str,
        bytes: i64,
        physical: i64,
        ahead: u64,
    ) -> Result<Result<place::Model, Shortage>, Failed> {
        let entry = self.entry(tx, place).await?;
        let left = entry.left();
        let wanted = if mutant::is(Mutant::AskForTwice) { 2 * bytes } else { bytes };
        if wanted <= left && ahead == 0 {
            entry.reserved += bytes;
            entry.promised += physical;
            entry.granted = true;
            return Ok(Ok(entry.row.clone()));
        }
        Ok(Err(Shortage::new(&entry.row, left, bytes, ahead)))
    }

    /// Bytes of a place that could be granted now.
    pub async fn left(&mut self, tx: &Transaction, place: &str) -> Result<i64, Failed> {
        Ok(self.entry(tx, place).await?.left())
    }

    /// Bytes that a place could hold if nothing else were in it.
    pub async fn limit(&mut self, tx: &Transaction, place: &str) -> Result<i64, Failed> {
        Ok(limit(&self.entry(tx, place).await?.row))
    }

    /// Moves or gives back: adds to what is reserved, used and promised; sums may only go down or stay.
    pub async fn adjust(
        &mut self,
        tx: &Transaction,
        place_id: i32,
        reserved: i64,
        used: i64,
        promised: i64,
    ) -> Result<(), Failed> {
        let name = match self.places.values().find(|it| it.row.id == place_id) {
            Some(entry) => entry.row.name.clone(),
            None => {
                let row = place::Entity::find_by_id(place_id).one(tx).await?;
                row.ok_or_else(|| Failed::Internal(anyhow::anyhow!("place {place_id} is gone")))?.name
            }
        };
        let entry = self.entry(tx, &name).await?;
        entry.reserved += reserved;
        entry.used += used;
        entry.promised += promised;
        entry.freed |= reserved + used < 0 || promised < 0;
        Ok(())
    }

    /// Places where space was given back.
    pub fn freed(&self) -> BTreeSet<String> {
        self.places.values().filter(|it| it.freed).map(|it| it.row.name.clone()).collect()
    }

    /// Writes every changed place once.
    pub async fn flush(self, tx: &Transaction) -> Result<(), Failed> {
        for entry in self.places.into_values().filter(|it| (it.reserved, it.used, it.promised) != (0, 0, 0)) {
            let (limit, physical_limit) = (limit(&entry.row), physical_limit(&entry.row));
            let column = |it: place::Column| Expr::col(it);
            let mut update = place::Entity::update_many()
                .col_expr(place::Column::Reserved, column(place::Column::Reserved).add(entry.reserved))
                .col_expr(place::Column::Used, column(place::Column::Used).add(entry.used))
                .col_expr(place::Column::Promised, column(place::Column::Promised).add(entry.promised))
                .col_expr(place::Column::Version, column(place::Column::Version).add(1i64))
                .filter(place::Column::Id.eq(entry.row.id));
            if entry.granted {
                let booked = column(place::Column::Reserved).add(column(place::Column::Used)).add(entry.reserved + entry.used);
                update = update.filter(booked.lte(limit));
                let physical = column(place::Column::PhysicalUsed)
                    .add(column(place::Column::Promised))
                    .add(entry.promised)
                    .lte(physical_limit);
                update = update.filter(Expr::col(place::Column::MeasuredAt).is_null().or(physical));
            }
            if update.exec(tx).await?.rows_affected != 1 {
                return Err(Failed::Conflict(format!("the last bytes of {} went to someone else", entry.row.name)));
            }
        }
        Ok(())
    }

    async fn entry(&mut self, tx: &Transaction, name: &str) -> Result<&mut Entry, Failed> {
        if !self.places.contains_key(name) {
            let row = place::Entity::find().filter(place::Column::Name.eq(name)).one(tx).await?;
            let row = row.ok_or_else(|| Failed::Internal(anyhow::anyhow!("place {name} is gone")))?;
            self.places.insert(name.to_owned(), Entry { row, reserved: 0, used: 0, promised: 0, granted: false, freed: false });
        }
        self.places.get_mut(name).ok_or_else(|| Failed::Internal(anyhow::anyhow!("place {name} is gone")))
    }
}

/// Seconds of waiting that are worth one step of priority.
const AGE_S: i64 = 600;

/// How far ahead an operation is in the queue of a place: its priority, raised by age.
pub fn rank(priority: i16, since: i64, now: i64) -> i64 {
    i64::from(priority) * AGE_S * 1_000_000 + Ord::max(now - since, 0)
}

/// `rank`, in the database.
fn rank_at(now: i64) -> Expr {
    let age = Expr::val(now).sub(Expr::col(operation::Column::WaitingSince));
    Expr::col(operation::Column::Priority).mul(AGE_S * 1_000_000).add(age)
}

/// Operations that wait for a place and come before a newcomer of that priority, but for those that are `gone`.
pub async fn ahead(
    db: &impl ConnectionTrait,
    place: &str,
    priority: i16,
    now: i64,
    gone: Vec<uuid::Uuid>,
) -> Result<u64, Failed> {
    let bar = rank(priority, now, now);
    let mut waiting = operation::Entity::find().filter(operation::Column::WaitingPlace.eq(place)).filter(rank_at(now).gte(bar));
    if !gone.is_empty() {
        waiting = waiting.filter(operation::Column::Id.is_not_in(gone));
    }
    Ok(waiting.count(db).await?)
}

/// An operation that waits for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct Waiting {
    /// Which.
    pub id: uuid::Uuid,
    /// How many bytes it waits for.
    pub waiting_bytes: i64,
    /// Its priority.
    pub priority: i16,
    /// Since when it waits, microseconds.
    pub waiting_since: Option<i64>,
}

impl Waiting {
    /// What those who wait are ordered by: who comes first has the least. All age alike, so that it is the same at any moment.
    pub fn order(&self) -> (i64, uuid::Uuid) {
        (rank(-self.priority, 0, self.waiting_since.unwrap_or(0)), self.id)
    }
}

/// How many that wait are tried in one transaction. The clock asks again soon for those behind them.
pub const MOST_TRIED: u64 = 256;

/// Operations that wait for a place, who comes first first, at most `MOST_TRIED`. Rows have plans, and many may wait.
pub async fn waiting(db: &impl ConnectionTrait, place: &str, now: i64) -> Result<Vec<Waiting>, Failed> {
    let waiting = operation::Entity::find()
        .select_only()
        .columns([
            operation::Column::Id,
            operation::Column::WaitingBytes,
            operation::Column::Priority,
            operation::Column::WaitingSince,
        ])
        .filter(operation::Column::WaitingPlace.eq(place))
        .order_by_desc(rank_at(now))
        .order_by_asc(operation::Column::Id)
        .limit(MOST_TRIED);
    Ok(waiting.into_model().all(db).await?)
}

/// Who waits for one of these places, by place, who comes first first: what is needed to say how many wait before one.
pub async fn queues(db: &impl ConnectionTrait, places: &BTreeSet<String>) -> anyhow::Result<BTreeMap<String, Vec<uuid::Uuid>>> {
    let waiting = operation::Entity::find()
        .select_only()
        .columns([
            operation::Column::WaitingPlace,
            operation::Column::Id,
            operation::Column::Priority,
            operation::Column::WaitingSince,
        ])
        .filter(operation::Column::WaitingPlace.is_in(places));
    let waiting: Vec<(String, uuid::Uuid, i16, Option<i64>)> = waiting.into_tuple().all(db).await?;
    let mut queues = BTreeMap::<String, Vec<(i64, uuid::Uuid)>>::new();
    for (place, id, priority, since) in waiting {
        // All age alike, so that their order is the same at any moment.
        queues.entry(place).or_default().push((rank(-priority, 0, since.unwrap_or(0)), id));
    }
    queues.values_mut().for_each(|it| it.sort_unstable());
    Ok(queues.into_iter().map(|(place, it)| (place, it.into_iter().map(|(_, id)| id).collect())).collect())
}
