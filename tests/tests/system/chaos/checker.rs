//! What must be true when all is over: every operation at an end of its own, nothing held or left behind, the store
//! and the database of one mind, every history sound, every snapshot restored bit for bit.

use super::{load::Client, report::Report};
use crate::{cloud::Cloud, rig::content};
use longshore_engine::{audit, books, database::Database};
use longshore_schema::{
    ids::OperationId,
    tables::{claim, hold, operation, pack, queue, reservation},
};
use sea_orm::EntityTrait;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn check(cloud: &Cloud, database: &Database, client: &Client, report: &mut Report) {
    let db = database.read();
    for row in operation::Entity::find().all(db).await.unwrap() {
        client.until(OperationId(row.id), &["ready", "failed", "destroyed"]).await;
    }
    // Twice: the first one may make more due.
    for _ in 0..2 {
        while client.command("sweep-store", &json!({"store": "main"}), &["volume.claimed"]).await.is_none() {}
        cloud
            .until("no operation is under way", async |_| {
                let rows = operation::Entity::find().all(db).await.unwrap();
                rows.iter().all(|it| ["ready", "failed", "destroyed"].contains(&it.state.as_str())).then_some(())
            })
            .await;
    }
    let restored = restore_all(cloud, client).await;
    let rows = operation::Entity::find().all(db).await.unwrap();
    for row in rows.iter().filter(|it| it.state == "failed") {
        let code = row.fault.as_ref().map_or(json!(null), |it| it["code"].clone());
        assert!(row.kind == "backup-snapshot" && code == "cancelled", "{} {} failed: {code}", row.kind, row.id);
    }
    for row in &rows {
        assert_eq!(audit::verify_history(db, OperationId(row.id)).await.unwrap(), Some(vec![]), "history of {}", row.id);
    }
    assert_eq!(claim::Entity::find().all(db).await.unwrap(), [], "claims are left");
    assert_eq!(hold::Entity::find().all(db).await.unwrap(), [], "holds are left");
    let unstarted: Vec<_> = queue::Entity::find().all(db).await.unwrap().into_iter().filter(|it| it.unstarted != 0).collect();
    assert_eq!(unstarted, [], "steps are counted that nobody waits for");
    check_books(database, &rows).await;
    check_store(cloud, database, &rows).await;
    let pool = std::fs::read_dir(cloud.dir.path().join("pool")).unwrap();
    let drafts: Vec<_> = pool.map(|it| it.unwrap().file_name().into_string().unwrap()).filter(|it| it.starts_with('.')).collect();
    assert_eq!(drafts, Vec::<String>::new(), "drafts are left");
    let mut states = BTreeMap::new();
    for row in rows {
        *states.entry(format!("{} {}", row.kind, row.state)).or_default() += 1;
    }
    report.ends(&states, restored);
}

/// Every snapshot of which there is a reference. How many there are.
async fn restore_all(cloud: &Cloud, client: &Client) -> usize {
    let mut restored = 0;
    for file in std::fs::read_dir(cloud.dir.path().join("reference")).unwrap() {
        let file = file.unwrap();
        let from: OperationId = file.file_name().to_str().unwrap().parse().unwrap();
        let name = format!("last{restored}");
        let body = json!({"zone": "z1", "from": from, "pool": "fast", "volume": name, "format": "raw"});
        let made = client.ready("create-volume", &body).await;
        let equal = content(&cloud.volume(&name), "raw") == std::fs::read(file.path()).unwrap();
        assert!(equal, "{from} doesn't restore to what it was");
        client.destroy(made).await;
        restored += 1;
    }
    restored
}

/// Reservations are those of Ready objects, used and nothing more, and the totals are their sums.
async fn check_books(database: &Database, rows: &[operation::Model]) {
    let db = database.read();
    let ready: BTreeSet<_> = rows.iter().filter(|it| it.state == "ready").map(|it| it.id).collect();
    let held = reservation::Entity::find().all(db).await.unwrap();
    let stray: Vec<_> = held.iter().filter(|it| it.bytes_reserved != 0 || !ready.contains(&it.operation_id)).collect();
    assert!(stray.is_empty(), "reservations are left: {stray:#?}");
    let wrong: Vec<_> = books::read(db).await.unwrap().into_iter().filter(|it| !it.agree() || it.reserved != 0).collect();
    assert_eq!(wrong, [], "books that don't agree, or with something reserved");
}

/// Packs are those that have rows, and objects those that are Ready.
async fn check_store(cloud: &Cloud, database: &Database, rows: &[operation::Model]) {
    let packs = pack::Entity::find().all(database.read()).await.unwrap();
    let unused: Vec<_> = packs.iter().filter(|it| it.uses < 1 || it.state != "live").collect();
    assert!(unused.is_empty(), "unused packs were not swept: {unused:#?}");
    let known: BTreeMap<_, _> = packs.iter().map(|it| (format!("prefix/packs/{}", it.id), it.bytes)).collect();
    assert_eq!(cloud.stored("prefix/packs/").await, known, "the store's packs, and the database's");
    let ready: BTreeSet<_> =
        rows.iter().filter(|it| it.state == "ready" && it.kind == "backup-snapshot").map(|it| it.id.to_string()).collect();
    let objects = cloud.stored("prefix/objects/").await;
    let objects: BTreeSet<_> = objects.keys().filter_map(|key| key.split('/').nth(2)).map(str::to_owned).collect();
    assert_eq!(objects, ready, "the store's objects, and the database's");
    assert_eq!(cloud.stored("prefix/clock/").await, BTreeMap::new());
}
