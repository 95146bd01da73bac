//! The ledger: the only part that grants space. Decisions are taken on what was read; at the end of a
//! transaction each place's row is updated once, guarded by its limits, so that of any number of transactions
//! racing for the last bytes exactly those that fit commit. A refused guard is a conflict: read again.

use crate::database::Failed;
use longshore_schema::{
    fault::{Fault, code},
    site::Size,
    tables::{operation, place},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, sea_query::Expr,
};
use std::collections::BTreeMap;

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
}

/// Why space isn't granted.
#[derive(Debug, Clone, PartialEq)]
pub struct Full {
    /// For the operation.
    pub fault: Fault,
    /// Whether it could fit once others are gone.
    pub may_fit_later: bool,
}

impl Entry {
    fn limit(&self) -> i64 {
        (self.row.total as f64 * self.row.overcommit * self.row.threshold) as i64
    }

    fn physical_limit(&self) -> i64 {
        (self.row.total as f64 * self.row.threshold) as i64
    }

    /// Bytes that can still be granted.
    fn left(&self) -> i64 {
        let booked = self.row.reserved + self.reserved + self.row.used + self.used;
        let by_booking = self.limit() - booked;
        if self.row.measured_at.is_none() {
            return by_booking;
        }
        Ord::min(by_booking, self.physical_limit() - self.row.physical_used - self.row.promised - self.promised)
    }
}

impl Ledger {
    /// Books `bytes` of a place. `ahead`: operations that wait for the same place and come first.
    pub async fn reserve(
        &mut self,
        tx: &DatabaseTransaction,
        place: &str,
        bytes: i64,
        physical: i64,
        ahead: u64,
    ) -> Result<Result<place::Model, Full>, Failed> {
        let entry = self.entry(tx, place).await?;
        let left = entry.left();
        if bytes <= left && ahead == 0 {
            entry.reserved += bytes;
            entry.promised += physical;
            entry.granted = true;
            return Ok(Ok(entry.row.clone()));
        }
        let size = |bytes: i64| Size(u64::try_from(bytes).unwrap_or(0));
        let waiting = if ahead == 0 { String::new() } else { format!(", {ahead} operations wait before you") };
        let what = entry.row.role.clone();
        let message =
            format!("{what} {place} has {} left of {}; {} needed{waiting}", size(left), size(entry.limit()), size(bytes));
        let may_fit_later = bytes <= entry.limit();
        let code = if what == "pool" { code::POOL_FULL } else { code::STORE_FULL };
        let fault = match may_fit_later {
            true => Fault::transient(code, message).retry_after(30),
            false => Fault::permanent(code, format!("{message}, which is more than it can ever hold")),
        };
        Ok(Err(Full { fault, may_fit_later }))
    }

    /// Whether `bytes` would fit now.
    pub async fn fits(&mut self, tx: &DatabaseTransaction, place: &str, bytes: i64) -> Result<bool, Failed> {
        Ok(self.entry(tx, place).await?.left() >= bytes)
    }

    /// Moves or gives back: adds to what is reserved, used and promised; sums may only go down or stay.
    pub async fn adjust(
        &mut self,
        tx: &DatabaseTransaction,
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
        Ok(())
    }

    /// Places where space was given back.
    pub fn freed(&self) -> Vec<String> {
        let freed = self.places.values().filter(|it| it.reserved + it.used < 0);
        freed.map(|it| it.row.name.clone()).collect()
    }

    /// Writes every changed place once.
    pub async fn flush(self, tx: &DatabaseTransaction) -> Result<(), Failed> {
        for entry in self.places.into_values().filter(|it| (it.reserved, it.used, it.promised) != (0, 0, 0)) {
            let (limit, physical_limit) = (entry.limit(), entry.physical_limit());
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

    async fn entry(&mut self, tx: &DatabaseTransaction, name: &str) -> Result<&mut Entry, Failed> {
        if !self.places.contains_key(name) {
            let row = place::Entity::find().filter(place::Column::Name.eq(name)).one(tx).await?;
            let row = row.ok_or_else(|| Failed::Internal(anyhow::anyhow!("place {name} is gone")))?;
            self.places.insert(name.to_owned(), Entry { row, reserved: 0, used: 0, promised: 0, granted: false });
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

/// Operations that wait for a place and come before a newcomer of that priority.
pub async fn ahead(db: &impl ConnectionTrait, place: &str, priority: i16, now: i64) -> Result<u64, Failed> {
    let bar = rank(priority, now, now);
    let rank = Expr::col(operation::Column::Priority)
        .mul(AGE_S * 1_000_000)
        .add(Expr::val(now).sub(Expr::col(operation::Column::WaitingSince)));
    let waiting = operation::Entity::find().filter(operation::Column::WaitingPlace.eq(place)).filter(rank.gte(bar));
    Ok(waiting.count(db).await?)
}

/// Operations that wait for a place, who comes first first.
pub async fn waiting(db: &impl ConnectionTrait, place: &str, now: i64) -> Result<Vec<operation::Model>, Failed> {
    let mut waiting = operation::Entity::find().filter(operation::Column::WaitingPlace.eq(place)).all(db).await?;
    waiting.sort_by_key(|it| (-rank(it.priority, it.waiting_since.unwrap_or(now), now), it.id));
    Ok(waiting)
}
