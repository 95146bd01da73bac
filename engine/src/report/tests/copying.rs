//! Copies between stores: whose packs they use, where they are booked, and who learns of which stores.

use super::{
    remembered::{SITE, before_commit, copied, done},
    *,
};
use longshore_schema::{
    site::Place,
    steps::object::{Committed, Copied},
    tables::{hold, operation, pack, pack_use, place},
    wire::Announce,
};
use std::collections::BTreeMap;

/// Two stores of one region, and one of another.
fn stores() -> String {
    let store = |name: &str, region: &str| {
        format!(
            "[[store]]\nname = \"{name}\"\nurl = \"file:///{name}\"\nregion = \"{region}\"\ncapacity = \"1 GiB\"\n\
             extent_size = \"256 KiB\"\n"
        )
    };
    format!("{SITE}[[zone]]\nname = \"z2\"\nregion = \"r2\"\n{}{}", store("other", "r1"), store("far", "r2"))
}

fn announced(kind: &str, stores: &[&str]) -> Item {
    let announce: Announce = serde_json::from_value(json!({
        "worker": format!("w-{kind}"), "incarnation": uuid::Uuid::nil(), "kind": kind, "host": "h1", "zone": "z1", "version": "1",
        "tools": {}, "pools": ["fast"], "stores": stores, "concurrency": 4,
    }))
    .unwrap();
    report(Report::Announce(announce))
}

/// Makes a copy that needs something of its base, if it has one, up to its commit: that attempt and its report.
async fn copy(journal: &Journal, message_id: &str, from: OperationId) -> (Attempt, Item) {
    let transfer = journal.command(message_id, "copy-object", json!({"from": from, "store": "other"})).await.unwrap();
    let written = copied(transfer);
    let root = written.root.clone();
    let based = plan(journal, transfer.operation).await["steps"][1]["work"]["worker"]["args"]["base"]["object"].is_string();
    let written = Copied { without_base: !based, ..written };
    let commit = sent(&journal.write(vec![done(transfer, written)]).await).pop().unwrap();
    (commit, done(commit, Committed { root, read_back: 0 }))
}

async fn plan(journal: &Journal, id: OperationId) -> Value {
    operation::Entity::find_by_id(id.0).one(journal.database.read()).await.unwrap().unwrap().plan
}

/// Whose packs an object uses, and in which place each of them is booked.
async fn uses(journal: &Journal, object: OperationId) -> BTreeMap<OperationId, String> {
    let db = journal.database.read();
    let used = pack_use::Entity::find().filter(pack_use::Column::ObjectId.eq(object.0)).all(db).await.unwrap();
    let mut uses = BTreeMap::new();
    for it in used {
        let row = pack::Entity::find_by_id(it.pack_id).one(db).await.unwrap().unwrap();
        let place = place::Entity::find_by_id(row.place_id).one(db).await.unwrap().unwrap();
        uses.insert(OperationId(row.operation_id), place.name);
    }
    uses
}

#[tokio::test]
async fn a_copy_uses_packs_of_its_own_and_of_its_base_and_none_of_its_source() {
    let journal = Journal::at(Config::default(), &stores()).await;
    journal.write(vec![announced("kvm", &["main", "other"])]).await;
    let (source, committed) = before_commit(&journal, "m1").await;
    journal.write(vec![committed]).await;
    let (first, committed) = copy(&journal, "m2", source.operation).await;
    let holds = async || hold::Entity::find().all(journal.database.read()).await.unwrap().len();
    assert_eq!(holds().await, 1, "its source is held");
    journal.write(vec![committed]).await;
    assert_eq!(uses(&journal, first.operation).await, BTreeMap::from([(first.operation, "other".to_owned())]));

    let (second, committed) = copy(&journal, "m3", source.operation).await;
    assert_eq!(holds().await, 2, "its source and its base are held");
    journal.write(vec![committed]).await;
    let both = [first, second].map(|it| (it.operation, "other".to_owned()));
    assert_eq!(uses(&journal, second.operation).await, BTreeMap::from(both));
    assert_eq!(uses(&journal, source.operation).await, BTreeMap::from([(source.operation, "main".to_owned())]));
    assert_eq!(holds().await, 0);
    let wrong: Vec<_> = crate::books::read(journal.database.read())
        .await
        .unwrap()
        .into_iter()
        .filter(|it| !it.agree() || it.reserved != 0)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn a_copy_that_comes_in_the_batch_in_which_the_last_one_becomes_ready_has_it_as_its_base() {
    let journal = Journal::at(Config::default(), &stores()).await;
    journal.write(vec![announced("kvm", &["main", "other"])]).await;
    let (source, committed) = before_commit(&journal, "m1").await;
    journal.write(vec![committed]).await;
    let (first, committed) = copy(&journal, "m2", source.operation).await;
    let again = command("m3", "copy-object", json!({"from": source.operation, "store": "other"}));
    let second = sent(&journal.write(vec![committed, again]).await).pop().unwrap();
    assert_eq!(plan(&journal, second.operation).await["uses"], json!([source.operation, first.operation]));
}

#[tokio::test]
async fn a_transfer_worker_is_told_of_all_stores_and_another_one_of_those_that_are_near() {
    let journal = Journal::at(Config::default(), &stores()).await;
    for (kind, wanted) in [("kvm", vec!["fast", "main", "other"]), ("transfer", vec!["far", "fast", "main", "other"])] {
        let told = words(&journal.write(vec![announced(kind, &[])]).await);
        let [Control::Welcome { places, .. }] = &told[..] else { panic!("{told:?}") };
        let name = |it: &Place| match it {
            Place::Pool(pool) => pool.name.clone(),
            Place::Store { store, .. } => store.name.clone(),
        };
        let mut names: Vec<_> = places.iter().map(name).collect();
        names.sort();
        assert_eq!(names, wanted, "{kind}");
    }
}
