//! Objects that are held by who comes in the batch in which they change.

use super::{
    remembered::{SITE, announced, before_commit, done},
    *,
};
use longshore_schema::tables::{hold, operation};

async fn row(journal: &Journal, attempt: Attempt) -> operation::Model {
    operation::Entity::find_by_id(attempt.operation.0).one(journal.database.read()).await.unwrap().unwrap()
}

#[tokio::test]
async fn who_ends_and_who_begins_can_hold_the_same_object_in_one_batch() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let (object, committed) = before_commit(&journal, "m1").await;
    journal.write(vec![committed]).await;
    let made = |volume: &str| json!({"zone": "z1", "from": object.operation, "pool": "fast", "volume": volume});
    let write = journal.command("m2", "create-volume", made("a.raw")).await.unwrap();
    let publish = sent(&journal.write(vec![done(write, json!({}))]).await).pop().unwrap();
    let discard = sent(&journal.write(vec![done(publish, json!({}))]).await).pop().unwrap();
    let both = vec![done(discard, json!(null)), command("m3", "create-volume", made("b.raw"))];
    let next = sent(&journal.write(both).await).pop().unwrap();
    assert_eq!(row(&journal, discard).await.state, "ready");
    let holds = hold::Entity::find().all(journal.database.read()).await.unwrap();
    assert_eq!(holds.iter().map(|it| it.holder_id).collect::<Vec<_>>(), [next.operation.0]);
    assert_eq!(row(&journal, object).await.holders, 1);
}

#[tokio::test]
async fn a_backup_that_comes_in_the_batch_in_which_the_last_one_becomes_ready_has_it_as_its_base() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let (base, committed) = before_commit(&journal, "m1").await;
    let body = json!({"zone": "z1", "store": "main", "pool": "fast", "volume": "disk.raw"});
    let measure = sent(&journal.write(vec![committed, command("m2", "backup-snapshot", body)]).await).pop().unwrap();
    assert_eq!(row(&journal, measure).await.plan["uses"], json!([base.operation]));
    assert_eq!((row(&journal, base).await.state.as_str(), row(&journal, base).await.holders), ("ready", 1));
}
