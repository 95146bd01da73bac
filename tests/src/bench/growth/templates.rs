//! What operations that are over look like: the simulation runs the engine's own journal, and what it left of one
//! operation of each kind and end is what all the others are copied from.

use crate::simulation::{Options, Place, run};
use anyhow::{Result, anyhow};
use longshore_schema::tables::{history, message_seen, operation, pack, pack_use, reservation, step};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use std::collections::BTreeMap;

/// Schedules that are run at least, so that something without mishaps is among what they leave.
const SCHEDULES: u64 = 300;
/// And at most, when a kind and end of `WEIGHTS` is still missing.
const MOST: u64 = 10 * SCHEDULES;

/// Of a hundred operations, so many are of that kind and ended like that.
pub(super) const WEIGHTS: [(&str, &str, usize); 8] = [
    ("backup-snapshot", "ready", 20),
    ("backup-snapshot", "destroyed", 15),
    ("backup-snapshot", "failed", 5),
    ("create-volume", "ready", 10),
    ("create-volume", "destroyed", 10),
    ("create-volume", "failed", 3),
    ("verify-object", "ready", 35),
    ("verify-object", "failed", 2),
];

/// An operation that is over, with everything that the product keeps of it.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) operation: operation::Model,
    steps: Vec<step::Model>,
    history: Vec<history::Model>,
    seen: message_seen::Model,
    reservations: Vec<reservation::Model>,
    packs: Vec<pack::Model>,
    uses: Vec<pack_use::Model>,
}

/// One for each of `WEIGHTS`, in their order: that with the fewest events, as most have no mishaps.
pub(super) async fn collect() -> Result<Vec<Template>> {
    let place = Place::new().await?;
    let options = Options { operations: Some(8), ..Options::default() };
    let mut found = BTreeMap::<(String, String), Template>::new();
    for seed in 0..MOST {
        if seed >= SCHEDULES
            && WEIGHTS.iter().all(|(kind, state, _)| found.contains_key(&((*kind).to_owned(), (*state).to_owned())))
        {
            break;
        }
        run(&place, seed, &options).await.map_err(|failure| anyhow!("schedule {seed}: {}", failure.wrong.join("; ")))?;
        for template in left(place.database().read()).await? {
            let key = (template.operation.kind.clone(), template.operation.state.clone());
            let best = found.get(&key).is_none_or(|it| template.history.len() < it.history.len());
            if best {
                found.insert(key, template);
            }
        }
    }
    let wanted = WEIGHTS.iter().map(|(kind, state, _)| {
        let missing = || anyhow!("no schedule left a {kind} that is {state}");
        found.remove(&((*kind).to_owned(), (*state).to_owned())).ok_or_else(missing)
    });
    wanted.collect()
}

async fn left(db: &impl ConnectionTrait) -> Result<Vec<Template>> {
    // What waits for its destruction is not over: an engine would go on with it.
    let over = operation::Entity::find()
        .filter(operation::Column::State.eq("ready"))
        .filter(operation::Column::DestroyRequested.eq(false))
        .all(db)
        .await?;
    let ended = operation::Entity::find().filter(operation::Column::State.is_in(["destroyed", "failed"])).all(db).await?;
    let answers = message_seen::Entity::find().order_by_asc(message_seen::Column::At).all(db).await?;
    let mut left = vec![];
    for operation in over.into_iter().chain(ended) {
        let id = operation.id;
        let about = |it: &&message_seen::Model| it.reply["operation"].as_str() == Some(&id.to_string());
        let Some(seen) = answers.iter().find(about).cloned() else { continue };
        let steps = step::Entity::find().filter(step::Column::OperationId.eq(id));
        let history = history::Entity::find().filter(history::Column::OperationId.eq(id)).order_by_asc(history::Column::Seq);
        let reservations = reservation::Entity::find().filter(reservation::Column::OperationId.eq(id));
        let (mut packs, mut uses) = (vec![], vec![]);
        if operation.state == "ready" {
            // Only its own: its base is no part of the template.
            packs = pack::Entity::find().filter(pack::Column::OperationId.eq(id)).all(db).await?;
            uses = pack_use::Entity::find().filter(pack_use::Column::ObjectId.eq(id)).all(db).await?;
            uses.retain(|it| packs.iter().any(|pack| pack.id == it.pack_id));
            packs.retain(|it| uses.iter().any(|used| used.pack_id == it.id));
        }
        let (steps, history) = (steps.all(db).await?, history.all(db).await?);
        let reservations = reservations.all(db).await?;
        left.push(Template { operation, steps, history, seen, reservations, packs, uses });
    }
    Ok(left)
}

impl Template {
    /// Writes it into tables of the same names that `db` finds first.
    pub(super) async fn insert(self, db: &impl ConnectionTrait) -> Result<()> {
        let id = self.operation.id.to_string();
        insert_all::<operation::Entity>(db, vec![self.operation]).await?;
        insert_all::<step::Entity>(db, self.steps).await?;
        insert_all::<history::Entity>(db, self.history).await?;
        // Under the operation's id, by which it is found.
        insert_all::<message_seen::Entity>(db, vec![message_seen::Model { message_id: id, ..self.seen }]).await?;
        insert_all::<reservation::Entity>(db, self.reservations).await?;
        insert_all::<pack::Entity>(db, self.packs).await?;
        insert_all::<pack_use::Entity>(db, self.uses).await
    }
}

async fn insert_all<E>(db: &impl ConnectionTrait, rows: Vec<E::Model>) -> Result<()>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
{
    let rows: Vec<_> = rows.into_iter().map(|it| it.into_active_model().reset_all()).collect();
    if !rows.is_empty() {
        E::insert_many(rows).exec_without_returning(db).await?;
    }
    Ok(())
}
