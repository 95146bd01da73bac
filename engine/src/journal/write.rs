//! The end of a unit of work: everything that it changed is written, guarded by what was read.

use super::{
    bulk::{self, Arrays, Form, Values, rows::Rows},
    loaded::Loaded,
    rows,
    unit::Unit,
};
use crate::database::Failed;
use longshore_schema::{
    ids::OperationId,
    tables::{outbox, step},
    time::Timestamp,
};
use sea_orm::{ConnectionTrait, DatabaseBackend};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// What a unit of work leaves to do after its commit.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Rows of the outbox.
    pub outbox: Vec<outbox::Model>,
    /// Steps, and messages that needn't survive.
    pub passing: Vec<outbox::Model>,
    /// Operations as they are now.
    pub(super) operations: BTreeMap<OperationId, Loaded>,
    /// Queues of the broker as they are now.
    pub(super) queues: HashMap<String, i32>,
    /// The database's time, if it was read.
    pub(super) now: Option<Timestamp>,
}

impl Unit<'_> {
    /// Writes everything, and deletes those rows of the outbox that were confirmed. Nothing may be applied afterwards.
    /// `reckoned`: the database compares the unit's time with its own.
    pub async fn flush(mut self, confirmed: &[Uuid], reckoned: bool) -> Result<Flushed, Failed> {
        self.wake_waiting().await?;
        // Rows are the last statement, and mostly the only one.
        let (depths, changed) = match self.tx.get_database_backend() {
            DatabaseBackend::Postgres => {
                let (rows, depths) = self.gather::<Arrays>(confirmed).await?;
                (depths, bulk::write_at_once(self.tx, rows, reckoned.then_some(self.now)).await?)
            }
            DatabaseBackend::Sqlite | DatabaseBackend::MySql | _ => {
                let (rows, depths) = self.gather::<Values>(confirmed).await?;
                (depths, bulk::write_one_by_one(self.tx, rows).await?)
            }
        };
        let queues = depths.into_iter().chain(changed.depths.into_iter().map(|it| (it.name, it.unstarted))).collect();
        Ok(Flushed { outbox: self.outbox, passing: self.passing, operations: self.operations, queues, now: changed.now })
    }

    /// All rows, and the depths of queues that don't change. Only space is written here.
    async fn gather<F: Form>(&mut self, confirmed: &[Uuid]) -> Result<(Rows<F>, HashMap<String, i32>), Failed> {
        let mut rows = Rows::<F>::empty();
        let depths = self.dispatch(&mut rows).await?;
        for loaded in self.operations.values_mut().filter(|it| it.known.is_changed()) {
            rows::put_operation(&mut loaded.row, &loaded.operation)?;
            let steps = loaded.step_rows()?;
            push(&mut rows, loaded, &steps);
            loaded.written(steps);
        }
        self.history.iter().for_each(|it| rows.add_history(it));
        self.answered.iter().for_each(|it| rows.add_seen(it));
        self.outbox.iter().for_each(|it| rows.add_message(it));
        confirmed.iter().for_each(|it| rows.delete_message(*it));
        std::mem::take(&mut self.ledger).flush(self.tx).await?;
        Ok((rows, depths))
    }
}

fn push<F: Form>(rows: &mut Rows<F>, loaded: &Loaded, steps: &[step::Model]) {
    let row = &loaded.row;
    let read_steps = match loaded.known.read() {
        None => {
            rows.add_operation(row);
            &[][..]
        }
        Some(read) => {
            if row.version != read.version {
                rows.change_operation(row, read);
            }
            &read.steps
        }
    };
    for step in steps {
        match read_steps.iter().find(|it| it.seq == step.seq) {
            Some(read) if read == step => (),
            Some(read) => rows.change_step(step, read),
            None => rows.add_step(step),
        }
    }
}
