//! `reserve`: space in all places that an operation needs, or none; and those that wait for some.

use super::READY_BYTES;
use crate::{
    database::Failed,
    journal::{loaded::Loaded, unit::Unit},
    ledger::{self, Shortage, Waiting},
    machine::Event,
    mutant::{self, Mutant},
    packs::to_i64,
    plan::{Amount, Need},
};
use longshore_schema::{
    bound,
    fault::{Fault, code},
    ids::OperationId,
    steps::volume::Measured,
    tables::{place, reservation},
};
use sea_orm::{ActiveModelTrait, EntityTrait};
use serde_json::{Value, json};

impl Unit<'_> {
    /// All or nothing: the first place that refuses undoes the others.
    pub(super) async fn reserve(&mut self, id: OperationId, seq: u16, needs: &[Need]) -> Result<Event, Failed> {
        let mut granted: Vec<(place::Model, i64, i64)> = vec![];
        for need in needs {
            let (bytes, physical) = match self.amount(id, &need.amount) {
                Ok(amount) => amount,
                Err(fault) => return Ok(Event::Refused { seq, fault, waits_for: None }),
            };
            let loaded = &self.operations[&id];
            let waits_already = loaded.row.waiting_place.as_deref() == Some(&*need.place);
            let ahead = match waits_already {
                true => 0,
                false => {
                    let gone = self.waited_until_now(&need.place);
                    let known = ledger::ahead(self.tx, &need.place, loaded.row.priority, self.now.0, gone).await?;
                    known + self.ahead_here(id, &need.place)
                }
            };
            match self.ledger.reserve(self.tx, &need.place, bytes, physical, ahead).await? {
                Ok(place) => granted.push((place, bytes, physical)),
                Err(shortage) => {
                    for (place, bytes, physical) in granted {
                        self.ledger.adjust(self.tx, place.id, -bytes, 0, -physical).await?;
                    }
                    return Ok(self.wait_or_fail(id, seq, need, bytes, &shortage));
                }
            }
        }
        let total: i64 = granted.iter().map(|(_, bytes, _)| bytes).sum();
        let rows = granted.into_iter().map(|(place, bytes, physical)| {
            let row = reservation::Model {
                operation_id: id.0,
                place_id: place.id,
                bytes_reserved: bytes,
                bytes_used: 0,
                physical,
                state: "held".into(),
            };
            reservation::ActiveModel::from(row).reset_all()
        });
        reservation::Entity::insert_many(rows).exec_without_returning(self.tx).await?;
        self.stop_waiting(id);
        Ok(Event::Performed { seq, output: json!({"bytes": total}) })
    }

    /// Operations that wait for a place as far as the database knows, and in this transaction ended or got what they wanted.
    fn waited_until_now(&self, place: &str) -> Vec<uuid::Uuid> {
        let waited = |it: &&Loaded| it.row.waiting_place.as_deref() == Some(place);
        let gone = self.operations.values().filter(waited).filter(|it| it.operation.waiting_for.as_deref() != Some(place));
        gone.map(|it| it.row.id).collect()
    }

    /// Operations that began to wait for a place in this transaction, which the database doesn't know yet, and that come
    /// before this one.
    fn ahead_here(&self, id: OperationId, place: &str) -> u64 {
        let bar = self.waiting(&self.operations[&id]).order();
        let others = self.begun_to_wait(place).filter(|it| it.operation.id != id);
        others.filter(|it| self.waiting(it).order() < bar).count() as u64
    }

    /// Operations that began to wait for a place in this transaction.
    fn begun_to_wait(&self, place: &str) -> impl Iterator<Item = &Loaded> {
        let waits = self.operations.values().filter(move |it| it.operation.waiting_for.as_deref() == Some(place));
        waits.filter(move |it| it.row.waiting_place.as_deref() != Some(place))
    }

    /// An operation as one that waits, from now on if it doesn't yet.
    fn waiting(&self, loaded: &Loaded) -> Waiting {
        let row = &loaded.row;
        let waiting_since = row.waiting_since.or(Some(self.now.0));
        Waiting { id: row.id, waiting_bytes: row.waiting_bytes, priority: row.priority, waiting_since }
    }

    fn wait_or_fail(&mut self, id: OperationId, seq: u16, need: &Need, bytes: i64, shortage: &Shortage) -> Event {
        let (now, fault) = (self.now.0, shortage.fault());
        if !need.wait || !shortage.may_end() {
            return Event::Refused { seq, fault, waits_for: None };
        }
        if let Some(loaded) = self.operations.get_mut(&id) {
            loaded.row.waiting_for = Some(shortage.to_string());
            loaded.row.waiting_bytes = bytes;
            loaded.row.waiting_since.get_or_insert(now);
        }
        Event::Refused { seq, fault, waits_for: Some(need.place.clone()) }
    }

    pub(super) fn stop_waiting(&mut self, id: OperationId) {
        if let Some(loaded) = self.operations.get_mut(&id) {
            loaded.row.waiting_for = None;
            loaded.row.waiting_bytes = 0;
            loaded.row.waiting_since = None;
        }
    }

    fn amount(&self, id: OperationId, amount: &Amount) -> Result<(i64, i64), Fault> {
        match amount {
            Amount::Known { bytes, physical } => Ok((to_i64(*bytes), to_i64(*physical))),
            Amount::CopyOf { measured, extent_size } => {
                let found = self.operations[&id].operation.output_of(*measured).cloned().unwrap_or(Value::Null);
                let measured: Measured = serde_json::from_value(found)
                    .map_err(|error| Fault::permanent(code::INTERNAL, format!("read what was measured: {error}")))?;
                let bytes = bound::bound(measured.virtual_size, measured.allocated, *extent_size);
                let bytes = to_i64(bytes).saturating_add(READY_BYTES);
                Ok((bytes, bytes))
            }
        }
    }

    /// Space was given back, or somebody left the line: those who wait are tried in their order, until one doesn't fit.
    pub(in crate::journal) async fn wake_waiting(&mut self) -> Result<(), Failed> {
        let mut places = self.ledger.freed();
        places.append(&mut self.left_line);
        while let Some(place) = places.pop_first() {
            self.wake(&place, "engine").await?;
            places.append(&mut self.left_line);
        }
        Ok(())
    }

    /// Tries those who wait for a place, in their order.
    pub async fn wake(&mut self, place: &str, actor: &str) -> Result<(), Failed> {
        let line = self.line(place).await?;
        if line.is_empty() {
            return Ok(());
        }
        // One that never fits, since the place's limit was lowered, is tried too: it fails, and keeps nobody waiting.
        let limit = self.ledger.limit(self.tx, place).await?;
        let mut left = self.ledger.left(self.tx, place).await?;
        let tried = line.into_iter().take_while(|it| {
            if it.waiting_bytes > limit {
                return true;
            }
            left -= it.waiting_bytes;
            left >= 0 && !mutant::is(Mutant::NeverWake)
        });
        let tried: Vec<OperationId> = tried.map(|it| OperationId(it.id)).collect();
        self.load(tried.iter().copied()).await?;
        for id in tried {
            if self.operations.get(&id).is_none_or(|it| it.operation.waiting_for.as_deref() != Some(place)) {
                continue;
            }
            if let Err(ignored) = self.apply(id, Event::Woken, actor).await? {
                tracing::debug!(operation.id = %id, %ignored, "not woken");
            }
        }
        Ok(())
    }

    /// Those who wait for a place, who comes first first: as the database knows them, with who began to wait in this transaction,
    /// and without who doesn't wait any more.
    async fn line(&self, place: &str) -> Result<Vec<Waiting>, Failed> {
        let mut line = ledger::waiting(self.tx, place, self.now.0).await?;
        let waits = |it: &Loaded| it.operation.waiting_for.as_deref() == Some(place);
        line.retain(|it| self.operations.get(&OperationId(it.id)).is_none_or(waits));
        line.extend(self.begun_to_wait(place).map(|it| self.waiting(it)));
        line.sort_by_key(Waiting::order);
        if mutant::is(Mutant::LastComesFirst) {
            line.reverse();
        }
        Ok(line)
    }
}
