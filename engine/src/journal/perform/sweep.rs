//! `choose` and `forget`: what a sweep removes from a store, and that it is gone.

use crate::{
    database::Failed,
    journal::unit::Unit,
    mutant::{self, Mutant},
    packs::{self, to_i64},
};
use longshore_schema::{
    ids::OperationId,
    steps::{object::WRITERS, sweep},
    tables::{operation as operation_table, place, remains, step},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of how many abandoned operations one sweep looks whether anything is left, at most.
const MOST_REMAINS: u64 = 500;

impl Unit<'_> {
    /// What a sweep removes: packs that are due, and what it found of operations that are over and past saving.
    pub(super) async fn choose(&mut self, id: OperationId, store: &str, listed: u16) -> Result<Value, Failed> {
        let listed: sweep::Listed =
            serde_json::from_value(self.operations[&id].operation.output_of(listed).cloned().unwrap_or(Value::Null))?;
        let place = self.swept(store).await?;
        let due = packs::begin_deleting(self.tx, self.now, place.id, 2000).await?;
        let packs = due.iter().filter_map(|it| longshore_schema::ids::PackId::of_key(&format!("packs/{}", it.id))).collect();
        let mut chosen = sweep::Chosen { packs, ..sweep::Chosen::default() };
        let mut owners: Vec<OperationId> = listed.packs.iter().map(|it| it.id.operation).collect();
        owners.extend(&listed.objects);
        // Before it is asked which packs have rows: an object that becomes Ready meanwhile, on another engine, gets its packs'
        // rows in the same transaction.
        let over = self.in_states(&owners, &["failed", "destroyed"]).await?;
        // A Ready object's packs got their rows when it became Ready: one without a row came later, from a worker
        // that had been cut off.
        let settled = self.in_states(&owners, &["failed", "destroyed", "ready"]).await?;
        let unknown = packs::unknown(self.tx, &listed.packs).await?;
        chosen.packs.extend(unknown.into_iter().map(|it| it.id.clone()).filter(|it| settled.contains(&it.operation)));
        chosen.objects = listed.objects.into_iter().filter(|it| over.contains(it)).collect();
        chosen.unfinished = self.never_finished(listed.unfinished).await?;
        chosen.remains = self.remains_in(&place).await?;
        Ok(serde_json::to_value(chosen)?)
    }

    async fn swept(&self, store: &str) -> Result<place::Model, Failed> {
        let place = place::Entity::find().filter(place::Column::Name.eq(store)).one(self.tx).await?;
        Ok(place.ok_or_else(|| anyhow::anyhow!("store {store} is gone"))?)
    }

    /// Operations that were abandoned before the grace, and for which bytes are booked still: the oldest first.
    async fn remains_in(&self, place: &place::Model) -> Result<Vec<OperationId>, Failed> {
        let grace = to_i64(packs::grace_s(place)).saturating_mul(1_000_000);
        let rows = remains::Entity::find()
            .select_only()
            .column(remains::Column::OperationId)
            .filter(remains::Column::PlaceId.eq(place.id))
            .filter(remains::Column::At.lte(self.now.0.saturating_sub(grace)))
            .order_by_asc(remains::Column::At)
            .limit(MOST_REMAINS);
        let ids: Vec<uuid::Uuid> = rows.into_tuple().all(self.tx).await?;
        Ok(ids.into_iter().map(OperationId).collect())
    }

    /// The keys of what no writer finishes: its operation has its end, or is past the attempt that wrote it.
    async fn never_finished(&self, found: Vec<sweep::Unfinished>) -> Result<Vec<String>, Failed> {
        let owners: Vec<OperationId> = found.iter().map(|it| it.operation).collect();
        let settled = self.in_states(&owners, &["failed", "destroyed", "ready"]).await?;
        let mut copies = BTreeMap::new();
        for chunk in owners.chunks(500) {
            let rows = step::Entity::find()
                .filter(step::Column::OperationId.is_in(chunk.iter().map(|it| it.0)))
                .filter(step::Column::Name.is_in(WRITERS.iter().copied()));
            copies.extend(rows.all(self.tx).await?.into_iter().map(|it| (OperationId(it.operation_id), it)));
        }
        let is_over = |it: &sweep::Unfinished| {
            settled.contains(&it.operation)
                || copies.get(&it.operation).zip(it.attempt).is_some_and(|(copy, attempt)| {
                    let out = ["sent", "running"].contains(&copy.state.as_str());
                    let current = u32::try_from(copy.attempt).unwrap_or(0);
                    attempt < current || (attempt == current && !out)
                })
        };
        Ok(found.into_iter().filter(is_over).map(|it| it.key).collect())
    }

    /// Which of these operations this database knows to be in such a state. Those that it never knew are not ours to
    /// touch.
    async fn in_states(&self, ids: &[OperationId], states: &[&str]) -> Result<std::collections::BTreeSet<OperationId>, Failed> {
        let mut over = std::collections::BTreeSet::new();
        for chunk in ids.chunks(500) {
            let mut rows = operation_table::Entity::find().filter(operation_table::Column::Id.is_in(chunk.iter().map(|it| it.0)));
            if !mutant::is(Mutant::SweepUnderWay) {
                rows = rows.filter(operation_table::Column::State.is_in(states.iter().copied()));
            }
            over.extend(rows.all(self.tx).await?.into_iter().map(|it| OperationId(it.id)));
        }
        Ok(over)
    }

    pub(super) async fn forget(&mut self, id: OperationId, store: &str, chosen: u16) -> Result<Value, Failed> {
        let output_of = |seq| self.operations[&id].operation.output_of(seq).cloned().unwrap_or(Value::Null);
        // What was chosen is removed by the next step.
        let gone = output_of(chosen + 1).get("gone").cloned().unwrap_or_else(|| json!([]));
        let mut gone: Vec<OperationId> = serde_json::from_value(gone)?;
        let chosen: sweep::Chosen = serde_json::from_value(output_of(chosen))?;
        let ids: Vec<String> = chosen.packs.iter().map(ToString::to_string).collect();
        let mut bytes = 0;
        for chunk in ids.chunks(500) {
            let rows = longshore_schema::tables::pack::Entity::find()
                .filter(longshore_schema::tables::pack::Column::Id.is_in(chunk.iter().cloned()))
                .filter(longshore_schema::tables::pack::Column::State.eq("deleting"));
            let rows = rows.all(self.tx).await?;
            bytes += rows.iter().map(|it| it.bytes).sum::<i64>();
            packs::forget(self.tx, &mut self.ledger, &rows).await?;
        }
        gone.retain(|it| chosen.remains.contains(it));
        let remains = self.forget_remains(store, &gone).await?;
        Ok(json!({"bytes": bytes, "remains": remains}))
    }

    /// Nothing of these abandoned operations is in the store: what was booked for it is given back. Returns how many bytes.
    async fn forget_remains(&mut self, store: &str, gone: &[OperationId]) -> Result<i64, Failed> {
        if gone.is_empty() || mutant::is(Mutant::KeepRemains) {
            return Ok(0);
        }
        let place = self.swept(store).await?;
        let rows = remains::Entity::find()
            .filter(remains::Column::PlaceId.eq(place.id))
            .filter(remains::Column::OperationId.is_in(gone.iter().map(|it| it.0)));
        let mut bytes = 0;
        for row in rows.all(self.tx).await? {
            if remains::Entity::delete_by_id(row.id).exec(self.tx).await?.rows_affected == 1 {
                self.ledger.adjust(self.tx, place.id, 0, -row.bytes, 0).await?;
                bytes += row.bytes;
            }
        }
        Ok(bytes)
    }
}
