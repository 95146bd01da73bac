//! What is booked for operations whose undo was given up, when a sweep looks for what they left.

use super::{
    remembered::{SITE, announced, done},
    *,
};
use longshore_schema::{
    ids::OperationId,
    steps::sweep::{Chosen, Deleted, Listed},
    tables::{place, remains},
};
use sea_orm::{ActiveModelTrait, ExprTrait};

async fn store(journal: &Journal) -> place::Model {
    let store = place::Entity::find().filter(place::Column::Name.eq("main"));
    store.one(journal.database.read()).await.unwrap().unwrap()
}

/// An operation was abandoned at that time, and 1,000 bytes stay booked for it.
async fn abandoned(journal: &Journal, at: i64) -> OperationId {
    let (operation, place_id) = (OperationId::new(), store(journal).await.id);
    let row = remains::Model { id: uuid::Uuid::now_v7(), operation_id: operation.0, place_id, bytes: 1000, what: json!([]), at };
    let used = place::Entity::update_many()
        .col_expr(place::Column::Used, Expr::col(place::Column::Used).add(1000i64))
        .filter(place::Column::Id.eq(place_id));
    let booked = journal.database.transact(|tx| {
        async move {
            remains::Entity::insert(remains::ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
            Ok(used.exec(tx).await?.rows_affected)
        }
        .boxed()
    });
    assert_eq!(booked.await.unwrap(), 1);
    operation
}

#[tokio::test]
async fn the_sweep_that_finds_nothing_of_an_abandoned_operation_gives_back_what_was_booked_for_it() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let (gone, there) = (abandoned(&journal, 1).await, abandoned(&journal, 2).await);
    let young = abandoned(&journal, i64::MAX).await;
    let list = journal.command("m1", "sweep-store", json!({"store": "main"})).await.unwrap();
    let written = journal.write(vec![done(list, Listed::default())]).await;
    let step = written.passing.iter().find(|it| it.exchange == names::STEPS).unwrap();
    let delete: StepMessage = serde_json::from_str(&step.body).unwrap();
    let chosen: Chosen = serde_json::from_value(delete.input).unwrap();
    assert_eq!(chosen.remains, [gone, there], "the grace isn't over for {young}");
    // What isn't asked for isn't believed.
    let deleted = Deleted { keys: 0, gone: vec![gone, young] };
    journal.write(vec![done(delete.attempt, deleted)]).await;
    let left = remains::Entity::find().all(journal.database.read()).await.unwrap();
    let mut left: Vec<_> = left.into_iter().map(|it| it.operation_id).collect();
    left.sort_unstable();
    assert_eq!((left, store(&journal).await.used), (vec![there.0, young.0], 2000));
}

async fn sweeps(journal: &Journal) -> Vec<String> {
    let items = crate::clock::due(&journal.database, Config::default(), true).await.unwrap();
    let sweeps = items.into_iter().filter_map(|it| match it {
        Item::Command(command) if command.kind == "sweep-store" => Some(command.message_id.clone()),
        _ => None,
    });
    sweeps.collect()
}

#[tokio::test]
async fn what_an_abandoned_operation_may_have_left_gets_a_sweep_although_no_pack_is_to_go() {
    let journal = Journal::at(Config::default(), SITE).await;
    abandoned(&journal, i64::MAX).await;
    assert_eq!(sweeps(&journal).await, Vec::<String>::new(), "its grace isn't over");
    abandoned(&journal, 1).await;
    let first = sweeps(&journal).await;
    assert!(first.len() == 1 && first[0].starts_with("sweep/main/remains/"), "{first:?}");
}
