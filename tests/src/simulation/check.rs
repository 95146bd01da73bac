//! What must be true after every commit, and what at the end. `rules` is what the database must say, `told` what came true of
//! what everybody was told, `left` what is really there.

use super::{
    rules::{self, Ahead},
    schedule::{Happening, Simulation},
    setup::{GRACE_S, SHORT_GRACE_S},
};
use longshore_engine::journal::{Item, history};
use longshore_schema::{ids::OperationId, tables};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use std::collections::BTreeMap;

/// Microseconds until a tick that may find room.
const WAIT_US: i64 = 120_000_000;
/// Operations of which something may remain in the store, and since when.
const REMAINS: &str = "SELECT r.operation_id, r.at FROM remains r JOIN place p ON p.id = r.place_id WHERE p.role = 'store'";
/// Microseconds until a tick that finds what nothing else says when to look for.
const BACKSTOP_US: i64 = 2_000_000;

impl Simulation<'_> {
    /// After every commit.
    pub(super) fn check_commit(&mut self, items: &[Item]) {
        let (wrong, ahead) = rules::after_commit(&self.place.sqlite);
        self.wrong.extend(wrong);
        self.check_booked(items);
        self.check_depths(items);
        self.check_deadlines();
        self.check_attention();
        self.plan_tick(ahead);
    }

    /// Finds when the clock has something to do.
    pub(super) fn look_ahead(&mut self) {
        let ahead = rules::look_ahead(&self.place.sqlite);
        self.plan_tick(ahead);
    }

    fn plan_tick(&mut self, ahead: Ahead) {
        // One that passed, and that no engine lived to see.
        let deadline = ahead.deadline.map(|it| it.max(self.now + BACKSTOP_US));
        let sweep = ahead.pack.map(|it| it.max(self.now + GRACE_S * 1_000_000 / 2));
        let backstop = (ahead.unsent || ahead.unheld).then_some(self.now + BACKSTOP_US);
        let room = ahead.waiting.then_some(self.now + WAIT_US);
        let remains = self.remains_go().map(|it| it.max(self.now + GRACE_S * 1_000_000 / 2));
        let next = [ahead.step, ahead.message, deadline, sweep, backstop, room, remains].into_iter().flatten().min();
        if let Some(at) = next {
            let late = self.choices.delay() / 4;
            self.tick_within((at - self.now).max(0) + late + 1);
        } else if self.tick_at.is_some() && !ahead.under_way {
            self.happenings.retain(|_, it| !matches!(it, Happening::Tick));
            self.tick_at = None;
        }
    }

    /// Seconds that a pack stays after its last use in this schedule, and what nobody knows of.
    pub(super) fn grace_s(&self) -> i64 {
        if self.waits_for_late { GRACE_S } else { SHORT_GRACE_S }
    }

    /// When a sweep may give back what is booked for abandoned operations, microseconds. One keeps it whose object is
    /// committed, or whose packs another one took over.
    fn remains_go(&self) -> Option<i64> {
        if self.world.abandoned.is_empty() {
            return None;
        }
        let remains = self.place.sqlite.sums(REMAINS).expect("what remains");
        let go = remains.into_iter().filter(|(id, _)| self.world.goes_at_last(OperationId(*id)));
        go.map(|(_, at)| at.cast_signed() + self.grace_s() * 1_000_000).min()
    }

    /// Nothing happens any more: everything is over or Ready, and nothing is left of what is over.
    pub(super) async fn check_end(&mut self) -> anyhow::Result<()> {
        self.check_told();
        self.check_records().await?;
        let swept = self.check_closed();
        self.check_left(swept);
        Ok(())
    }

    /// The histories of those of which something was just asked say what their rows say, also in the middle of their life.
    pub(super) async fn check_histories(&mut self) -> anyhow::Result<()> {
        let db = self.place.database.read();
        for id in std::mem::take(&mut self.known.asked_about) {
            let row = tables::operation::Entity::find_by_id(id.0).one(db).await?;
            let rows = tables::history::Entity::find().filter(tables::history::Column::OperationId.eq(id.0));
            let rows = rows.order_by_asc(tables::history::Column::Seq).all(db).await?;
            let wrong = row.map(|row| history::verify(&row, &rows)).unwrap_or_default();
            self.wrong.extend(wrong.into_iter().map(|wrong| format!("history of {id}, asked about: {wrong}")));
        }
        Ok(())
    }

    /// The database says what everybody was told, and can prove it.
    async fn check_records(&mut self) -> anyhow::Result<()> {
        let db = self.place.database.read();
        let operations = tables::operation::Entity::find().order_by_asc(tables::operation::Column::Id).all(db).await?;
        let rows = tables::history::Entity::find()
            .order_by_asc(tables::history::Column::OperationId)
            .order_by_asc(tables::history::Column::Seq);
        let mut histories = BTreeMap::<uuid::Uuid, Vec<_>>::new();
        for row in rows.all(db).await? {
            histories.entry(row.operation_id).or_default().push(row);
        }
        if operations.len() != self.known.told.len() {
            self.wrong.push(format!("there are {} operations, and {} were heard of", operations.len(), self.known.told.len()));
        }
        for row in &operations {
            let id = OperationId(row.id);
            let history = histories.get(&row.id).map(Vec::as_slice).unwrap_or_default();
            self.wrong.extend(history::verify(row, history).into_iter().map(|wrong| format!("history of {id}: {wrong}")));
            if self.known.told.get(&id).is_none_or(|it| it.state != row.state) {
                let waits = &row.waiting_for;
                self.wrong.push(format!("{id} ({}) is {}, waits for {waits:?}, and nobody was told", row.kind, row.state));
            }
        }
        let dying = tables::pack::Entity::find().filter(tables::pack::Column::State.ne("live")).all(db).await?;
        if !dying.is_empty() {
            self.wrong.push(format!("packs are never swept: {dying:?}"));
        }
        if self.place.sqlite.numbers("SELECT count(*) FROM operation WHERE needs_attention")? != [Some(0)] {
            self.wrong.push("operations that nothing happens to any more need attention".into());
        }
        if self.place.sqlite.numbers("SELECT count(*) FROM outbox")? != [Some(0)] {
            self.wrong.push("messages are left in the outbox".into());
        }
        Ok(())
    }
}
