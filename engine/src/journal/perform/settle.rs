//! What an operation's end gives back: space, claims, holds, each exactly once.

use super::READY_BYTES;
use crate::{
    database::Failed,
    journal::unit::Unit,
    machine::{Event, Operation, State},
    mutant::{self, Mutant},
    packs::{self, to_i64},
    plan::Work,
};
use longshore_schema::{
    ids::OperationId,
    steps::object::{Copied, WRITERS},
    tables::{claim, hold, operation as operation_table, remains, reservation},
};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr};
use serde_json::json;

impl Unit<'_> {
    /// It became Ready: uses are exact, what was reserved and not used is given back, its own work holds nothing.
    pub(in crate::journal) async fn settle_ready(&mut self, id: OperationId) -> Result<(), Failed> {
        let operation = self.operations[&id].operation.clone();
        let mut root_bytes = None;
        if let Some((copied, base)) = written(&operation)? {
            packs::record(self.tx, &mut self.ledger, id, &copied.packs).await??;
            packs::drop_uses(self.tx, self.now, id, Some(&copied.unused)).await?;
            let base = base.filter(|_| !copied.without_base);
            if let Some(base) = base.filter(|_| !mutant::is(Mutant::ForgetInheritedUses)) {
                packs::inherit(self.tx, id, base, &copied.dropped).await?;
            }
            packs::mark_sparse(self.tx, id, &copied.sparse).await?;
            root_bytes = Some(to_i64(copied.root.bytes) + READY_BYTES);
        }
        for held in self.reservations(id).await? {
            // A store keeps the root beside the packs; a pool keeps the volume at its booked size.
            let used = Ord::min(root_bytes.unwrap_or(held.bytes_reserved), held.bytes_reserved);
            let used = if mutant::is(Mutant::BookNothingThatIsReady) { 0 } else { used };
            self.ledger.adjust(self.tx, held.place_id, -held.bytes_reserved, used, -held.physical).await?;
            self.settle_reservation(&held, used).await?;
        }
        self.end_work(id).await
    }

    /// It is over: everything that only it needed is given back, each thing exactly once.
    pub(in crate::journal) async fn release(&mut self, id: OperationId, abandoned: &[u16]) -> Result<(), Failed> {
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
        if self.operations[&id].operation.plan.reserves() {
            reservation::Entity::delete_many().filter(reservation::Column::OperationId.eq(id.0)).exec(self.tx).await?;
        }
        if was_ready || !abandoned.is_empty() {
            packs::drop_uses(self.tx, self.now, id, None).await?;
        } else if !mutant::is(Mutant::KeepFailedPacks) {
            packs::forget_all_of(self.tx, &mut self.ledger, id).await?;
        }
        self.stop_waiting(id);
        self.end_work(id).await
    }

    /// What its reserving step was granted, for `Mutant::ReleaseByCounter`.
    fn granted(&self, id: OperationId) -> Option<i64> {
        self.operations[&id].operation.steps.iter().find_map(|it| it.output.as_ref()?["bytes"].as_i64())
    }

    /// What may remain of an abandoned operation stays booked, as used: in a store until a sweep finds it gone.
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
        if !self.operations[&id].operation.plan.reserves() {
            return Ok(vec![]);
        }
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

    /// Claims and use holds end with an operation's work. Its plan says whether there were any.
    async fn end_work(&mut self, id: OperationId) -> Result<(), Failed> {
        let plan = self.operations[&id].operation.plan.clone();
        if !plan.claims.is_empty() && !mutant::is(Mutant::KeepClaims) {
            claim::Entity::delete_many().filter(claim::Column::OperationId.eq(id.0)).exec(self.tx).await?;
        }
        if plan.uses.is_empty() {
            return Ok(());
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
}

/// What the step reported that wrote the operation's object, if it made one, and the base that this step was given.
fn written(operation: &Operation) -> anyhow::Result<Option<(Copied, Option<OperationId>)>> {
    let steps = &operation.plan.steps;
    let Some(seq) = steps.iter().position(|it| WRITERS.contains(&it.name.as_str())) else { return Ok(None) };
    let Some(copied) = operation.output_of(u16::try_from(seq)?) else { return Ok(None) };
    let base = match &steps[seq].work {
        Work::Worker(call) => serde_json::from_value(call.args["base"]["object"].clone())?,
        Work::Engine(_) => None,
    };
    Ok(Some((serde_json::from_value(copied.clone())?, base)))
}
