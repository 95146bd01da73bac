//! Engine steps: what the engine does itself, inside the transaction that reaches them. Each ends in an event.

use super::unit::Unit;
use crate::{
    database::Failed,
    ledger,
    machine::{Event, State},
    mutant::{self, Mutant},
    operation,
    packs::{self, to_i64},
    plan::{Amount, EngineStep, Need, Work},
};
use longshore_schema::{
    bound,
    fault::{Fault, code},
    ids::OperationId,
    step::Step,
    steps::{
        object::{Copied, Copy, Sealed},
        sweep,
        volume::Measured,
    },
    tables::{claim, hold, operation as operation_table, place, remains, reservation, step},
};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};

/// What a root and its `ready` take in a store, beside the root's own length.
const READY_BYTES: i64 = 1024;

impl Unit<'_> {
    pub(super) async fn perform(&mut self, id: OperationId, seq: u16) -> Result<Event, Failed> {
        let plan = self.operations[&id].operation.plan.clone();
        let Work::Engine(step) = &plan.steps[usize::from(seq)].work else {
            return Err(Failed::Internal(anyhow::anyhow!("step {seq} of {id} is not the engine's")));
        };
        let done = match step {
            EngineStep::Reserve(needs) => return self.reserve(id, seq, needs).await,
            EngineStep::Publish => self.publish(id),
            EngineStep::Choose { store, listed } => self.choose(id, store, *listed).await,
            EngineStep::Forget { store: _, chosen } => self.forget(id, *chosen).await,
        };
        match done {
            Ok(output) => Ok(Event::Performed { seq, output }),
            Err(Failed::Internal(error)) => {
                tracing::error!(operation.id = %id, step.name = plan.steps[usize::from(seq)].name, error = format!("{error:#}"), "an engine step failed");
                Ok(Event::Refused { seq, fault: Fault::permanent(code::INTERNAL, format!("{error:#}")), waits_for: None })
            }
            Err(failed) => Err(failed),
        }
    }

    /// All or nothing: the first place that refuses undoes the others.
    async fn reserve(&mut self, id: OperationId, seq: u16, needs: &[Need]) -> Result<Event, Failed> {
        let mut granted: Vec<(place::Model, i64, i64)> = vec![];
        for need in needs {
            let (bytes, physical) = match self.amount(id, &need.amount) {
                Ok(amount) => amount,
                Err(fault) => return Ok(Event::Refused { seq, fault, waits_for: None }),
            };
            let loaded = &self.operations[&id];
            let waits_already = loaded.row.waiting_place.as_deref() == Some(&*need.place);
            let ahead =
                if waits_already { 0 } else { ledger::ahead(self.tx, &need.place, loaded.row.priority, self.now.0).await? };
            match self.ledger.reserve(self.tx, &need.place, bytes, physical, ahead).await? {
                Ok(place) => granted.push((place, bytes, physical)),
                Err(full) => {
                    for (place, bytes, physical) in granted {
                        self.ledger.adjust(self.tx, place.id, -bytes, 0, -physical).await?;
                    }
                    let waits = need.wait && full.may_fit_later;
                    return Ok(self.wait_or_fail(id, seq, need, bytes, full.fault, waits));
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

    fn wait_or_fail(&mut self, id: OperationId, seq: u16, need: &Need, bytes: i64, fault: Fault, waits: bool) -> Event {
        let now = self.now.0;
        if !waits {
            let fault = Fault { class: longshore_schema::fault::Class::Permanent, ..fault };
            return Event::Refused { seq, fault, waits_for: None };
        }
        if let Some(loaded) = self.operations.get_mut(&id) {
            loaded.row.waiting_for = Some(fault.message.clone());
            loaded.row.waiting_bytes = bytes;
            loaded.row.waiting_since.get_or_insert(now);
        }
        Event::Refused { seq, fault, waits_for: Some(need.place.clone()) }
    }

    fn stop_waiting(&mut self, id: OperationId) {
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

    fn publish(&self, id: OperationId) -> Result<Value, Failed> {
        let loaded = &self.operations[&id];
        let kind = operation::find(&loaded.row.kind).map_err(|fault| Failed::Internal(fault.into()))?;
        Ok(kind.output(&loaded.row.params, &loaded.operation))
    }

    /// What a sweep removes: packs that are due, and what it found of operations that are over and past saving.
    async fn choose(&mut self, id: OperationId, store: &str, listed: u16) -> Result<Value, Failed> {
        let listed: sweep::Listed =
            serde_json::from_value(self.operations[&id].operation.output_of(listed).cloned().unwrap_or(Value::Null))?;
        let place = place::Entity::find().filter(place::Column::Name.eq(store)).one(self.tx).await?;
        let place = place.ok_or_else(|| anyhow::anyhow!("store {store} is gone"))?;
        let due = packs::begin_deleting(self.tx, self.now, place.id, 2000).await?;
        let packs = due.iter().filter_map(|it| longshore_schema::ids::PackId::of_key(&format!("packs/{}", it.id))).collect();
        let mut chosen = sweep::Chosen { packs, ..sweep::Chosen::default() };
        let unknown: Vec<Sealed> = packs::unknown(self.tx, &listed.packs).await?.into_iter().cloned().collect();
        let mut owners: Vec<OperationId> = unknown.iter().map(|it| it.id.operation).collect();
        owners.extend(&listed.objects);
        let over = self.in_states(&owners, &["failed", "destroyed"]).await?;
        // A Ready object's packs got their rows when it became Ready: one without a row came later, from a worker
        // that had been cut off.
        let settled = self.in_states(&owners, &["failed", "destroyed", "ready"]).await?;
        chosen.packs.extend(unknown.into_iter().map(|it| it.id).filter(|it| settled.contains(&it.operation)));
        chosen.objects = listed.objects.into_iter().filter(|it| over.contains(it)).collect();
        chosen.unfinished = self.never_finished(listed.unfinished).await?;
        Ok(serde_json::to_value(chosen)?)
    }

    /// The keys of what no writer finishes: its operation has its end, or is past the attempt that wrote it.
    async fn never_finished(&self, found: Vec<sweep::Unfinished>) -> Result<Vec<String>, Failed> {
        let owners: Vec<OperationId> = found.iter().map(|it| it.operation).collect();
        let settled = self.in_states(&owners, &["failed", "destroyed", "ready"]).await?;
        let mut copies = std::collections::BTreeMap::new();
        for chunk in owners.chunks(500) {
            let rows = step::Entity::find()
                .filter(step::Column::OperationId.is_in(chunk.iter().map(|it| it.0)))
                .filter(step::Column::Name.eq(Copy::NAME));
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
            let rows = operation_table::Entity::find()
                .filter(operation_table::Column::Id.is_in(chunk.iter().map(|it| it.0)))
                .filter(operation_table::Column::State.is_in(states.iter().copied()));
            over.extend(rows.all(self.tx).await?.into_iter().map(|it| OperationId(it.id)));
        }
        Ok(over)
    }

    async fn forget(&mut self, id: OperationId, chosen: u16) -> Result<Value, Failed> {
        let chosen: sweep::Chosen =
            serde_json::from_value(self.operations[&id].operation.output_of(chosen).cloned().unwrap_or(Value::Null))?;
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
        Ok(json!({"bytes": bytes}))
    }

    /// It became Ready: uses are exact, what was reserved and not used is given back, its own work holds nothing.
    pub(super) async fn settle_ready(&mut self, id: OperationId) -> Result<(), Failed> {
        let operation = self.operations[&id].operation.clone();
        let copied =
            operation.plan.steps.iter().position(|it| it.name == Copy::NAME).and_then(|seq| operation.output_of(seq as u16));
        let mut root_bytes = None;
        if let Some(copied) = copied {
            let copied: Copied = serde_json::from_value(copied.clone())?;
            packs::record(self.tx, &mut self.ledger, id, &copied.packs).await?;
            packs::drop_uses(self.tx, self.now, id, Some(&copied.unused)).await?;
            let base = operation.plan.uses.first().filter(|_| !copied.without_base);
            if let Some(base) = base.filter(|_| !mutant::is(Mutant::ForgetInheritedUses)) {
                packs::inherit(self.tx, id, *base, &copied.dropped).await?;
            }
            root_bytes = Some(to_i64(copied.root.bytes) + READY_BYTES);
        }
        for held in self.reservations(id).await? {
            // A store keeps the root beside the packs; a pool keeps the volume at its booked size.
            let used = Ord::min(root_bytes.unwrap_or(held.bytes_reserved), held.bytes_reserved);
            self.ledger.adjust(self.tx, held.place_id, -held.bytes_reserved, used, -held.physical).await?;
            self.settle_reservation(&held, used).await?;
        }
        self.end_work(id).await
    }

    /// It is over: everything that only it needed is given back, each thing exactly once.
    pub(super) async fn release(&mut self, id: OperationId, abandoned: &[u16]) -> Result<(), Failed> {
        let was_ready = self.operations[&id].operation.state == State::Destroyed;
        if !abandoned.is_empty() {
            self.write_down_remains(id, abandoned).await?;
        }
        for held in self.reservations(id).await? {
            let gone = if abandoned.is_empty() { held.bytes_used } else { 0 };
            let reserved = if abandoned.is_empty() { held.bytes_reserved } else { 0 };
            let reserved = if mutant::is(Mutant::ReleaseByCounter) { self.granted(id).unwrap_or(reserved) } else { reserved };
            self.ledger.adjust(self.tx, held.place_id, -reserved, -gone, -held.physical).await?;
        }
        reservation::Entity::delete_many().filter(reservation::Column::OperationId.eq(id.0)).exec(self.tx).await?;
        if was_ready || !abandoned.is_empty() {
            packs::drop_uses(self.tx, self.now, id, None).await?;
        } else {
            packs::forget_all_of(self.tx, &mut self.ledger, id).await?;
        }
        self.stop_waiting(id);
        self.end_work(id).await
    }

    /// What its reserving step was granted, for `Mutant::ReleaseByCounter`.
    fn granted(&self, id: OperationId) -> Option<i64> {
        self.operations[&id].operation.steps.iter().find_map(|it| it.output.as_ref()?["bytes"].as_i64())
    }

    /// What may remain of an abandoned operation stays booked, as used, until an audit finds it gone.
    async fn write_down_remains(&mut self, id: OperationId, abandoned: &[u16]) -> Result<(), Failed> {
        let plan = self.operations[&id].operation.plan.clone();
        let what: Vec<_> = abandoned
            .iter()
            .filter_map(|seq| plan.steps.get(usize::from(*seq)))
            .filter_map(|it| it.undo.as_ref().map(|undo| json!({"step": it.name, "undo": undo.call})))
            .collect();
        for held in self.reservations(id).await? {
            self.ledger.adjust(self.tx, held.place_id, -held.bytes_reserved, held.bytes_reserved, 0).await?;
            let row = remains::Model {
                id: uuid::Uuid::now_v7(),
                operation_id: id.0,
                place_id: held.place_id,
                bytes: held.bytes_reserved + held.bytes_used,
                what: json!(what),
                at: self.now.0,
            };
            remains::Entity::insert(remains::ActiveModel::from(row).reset_all()).exec_without_returning(self.tx).await?;
        }
        Ok(())
    }

    /// Its live reservations, closed to workers' renewals from here on.
    async fn reservations(&self, id: OperationId) -> Result<Vec<reservation::Model>, Failed> {
        reservation::Entity::update_many()
            .col_expr(reservation::Column::State, Expr::val("ended"))
            .filter(reservation::Column::OperationId.eq(id.0))
            .filter(reservation::Column::State.eq("held"))
            .exec(self.tx)
            .await?;
        Ok(reservation::Entity::find().filter(reservation::Column::OperationId.eq(id.0)).all(self.tx).await?)
    }

    async fn settle_reservation(&self, held: &reservation::Model, used: i64) -> Result<(), Failed> {
        reservation::Entity::update_many()
            .col_expr(reservation::Column::BytesReserved, Expr::val(0i64))
            .col_expr(reservation::Column::BytesUsed, Expr::val(used))
            .col_expr(reservation::Column::Physical, Expr::val(0i64))
            .filter(reservation::Column::OperationId.eq(held.operation_id))
            .filter(reservation::Column::PlaceId.eq(held.place_id))
            .exec(self.tx)
            .await?;
        Ok(())
    }

    /// Claims and use holds end with an operation's work.
    async fn end_work(&mut self, id: OperationId) -> Result<(), Failed> {
        if !mutant::is(Mutant::KeepClaims) {
            claim::Entity::delete_many().filter(claim::Column::OperationId.eq(id.0)).exec(self.tx).await?;
        }
        let holds = hold::Entity::find().filter(hold::Column::HolderId.eq(id.0)).filter(hold::Column::Kind.eq("use"));
        for held in holds.all(self.tx).await? {
            let object = OperationId(held.object_id);
            hold::Entity::delete_by_id((held.object_id, id.0)).exec(self.tx).await?;
            operation_table::Entity::update_many()
                .col_expr(operation_table::Column::Holders, Expr::col(operation_table::Column::Holders).sub(1))
                .col_expr(operation_table::Column::LastUsedAt, Expr::val(self.now.0))
                .filter(operation_table::Column::Id.eq(held.object_id))
                .exec(self.tx)
                .await?;
            match self.operations.get_mut(&object) {
                Some(loaded) => loaded.let_go(),
                None => self.load([object]).await?,
            }
            let row = &self.operations[&object].row;
            if row.destroy_requested && row.holders == 0 {
                self.next.push_back((object, Event::HoldsGone));
            }
        }
        Ok(())
    }

    /// Space was given back: those that wait for it are tried in their order, until one doesn't fit.
    pub(super) async fn wake_waiting(&mut self) -> Result<(), Failed> {
        for place in self.ledger.freed() {
            self.wake(&place, "engine").await?;
        }
        Ok(())
    }

    /// Tries those that wait for a place, in their order.
    pub async fn wake(&mut self, place: &str, actor: &str) -> Result<(), Failed> {
        for row in ledger::waiting(self.tx, place, self.now.0).await? {
            let id = OperationId(row.id);
            self.load([id]).await?;
            if self.operations[&id].operation.waiting_for.as_deref() != Some(place) {
                continue;
            }
            if !self.ledger.fits(self.tx, place, row.waiting_bytes).await? {
                break;
            }
            if let Err(ignored) = self.apply(id, Event::Woken, actor).await? {
                tracing::debug!(operation.id = %id, %ignored, "not woken");
            }
        }
        Ok(())
    }
}
