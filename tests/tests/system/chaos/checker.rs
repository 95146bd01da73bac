//! What must be true when all is over: one operation for each accepted command, every one at an end of its own that was
//! announced, nothing held or left behind, places and the database of one mind, every history sound, every snapshot restored bit
//! for bit.

use super::{
    STORES, VOLUMES,
    listener::Listener,
    load::{Client, Tally},
    report::Report,
};
use crate::{
    cloud::Cloud,
    rig::{content, files},
};
use longshore_engine::{audit, books, database::Database};
use longshore_schema::{
    ids::OperationId,
    tables::{claim, hold, operation, pack, place, queue, remains, reservation},
    wire::names,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

/// What it asks and compares.
pub(super) struct Checker<'c> {
    pub(super) cloud: &'c Cloud,
    pub(super) database: &'c Database,
    pub(super) client: &'c Client,
    pub(super) listener: &'c Listener,
    pub(super) tally: &'c Mutex<Tally>,
}

pub(super) async fn check(Checker { cloud, database, client, listener, tally }: Checker<'_>, report: &mut Report) {
    let db = database.read();
    for row in operation::Entity::find().all(db).await.unwrap() {
        client.until(OperationId(row.id), &["ready", "failed", "destroyed"]).await;
    }
    // The first one may make more due, and the one that finds nothing of an abandoned operation gives back what was booked for it.
    for _ in 0..4 {
        for store in STORES {
            while client.command("sweep-store", &json!({"store": store}), &["volume.claimed"]).await.is_none() {}
        }
        cloud
            .until("no operation is under way", async |_| {
                let rows = operation::Entity::find().all(db).await.unwrap();
                rows.iter().all(|it| ["ready", "failed", "destroyed"].contains(&it.state.as_str())).then_some(())
            })
            .await;
    }
    assert_eq!(remains::Entity::find().all(db).await.unwrap(), [], "abandoned operations of which nothing is left");
    let restored = restore_all(cloud, client).await;
    let rows = operation::Entity::find().all(db).await.unwrap();
    let snapshots = rows.iter().filter(|it| it.store.is_some() && it.state == "ready").map(|it| OperationId(it.id));
    assert_eq!(restored, snapshots.collect(), "snapshots and copies that were restored, and those that are Ready");
    check_commands(&rows, &tally.lock().unwrap());
    for row in &rows {
        assert_eq!(audit::verify_history(db, OperationId(row.id)).await.unwrap(), Some(vec![]), "history of {}", row.id);
    }
    assert_eq!(claim::Entity::find().all(db).await.unwrap(), [], "claims are left");
    assert_eq!(hold::Entity::find().all(db).await.unwrap(), [], "holds are left");
    let unstarted: Vec<_> = queue::Entity::find().all(db).await.unwrap().into_iter().filter(|it| it.unstarted != 0).collect();
    assert_eq!(unstarted, [], "steps are counted that nobody waits for");
    check_books(database, &rows).await;
    check_store(cloud, database, &rows).await;
    check_pool(cloud, &rows);
    let announced = listener.check(cloud, database, &rows).await;
    let mut states = BTreeMap::new();
    for row in rows {
        *states.entry(format!("{} {}", row.kind, row.state)).or_default() += 1;
    }
    report.ends(&states, restored.len(), announced);
}

/// One operation for each accepted command, and the engine's own sweeps; none failed for another reason than that somebody
/// asked for it.
fn check_commands(rows: &[operation::Model], tally: &Tally) {
    let asked = rows.iter().filter(|it| it.user_name.as_deref() != Some(names::ENGINE_USER));
    let asked: Vec<_> = asked.map(|it| OperationId(it.id)).collect::<BTreeSet<_>>().into_iter().collect();
    let mut made = tally.made.clone();
    made.sort_unstable();
    assert_eq!(made, asked, "operations of accepted commands, and those that there are");
    for row in rows {
        let code = row.fault.as_ref().filter(|_| row.state == "failed").map_or(json!(null), |it| it["code"].clone());
        let abandoned = tally.abandoned.contains(&OperationId(row.id));
        let asked_for = if abandoned { code == "abandoned" } else { code.is_null() || code == "cancelled" };
        let may_fail = row.state != "failed" || (row.kind == "backup-snapshot" && !code.is_null());
        assert!(asked_for && may_fail, "{} {} is {}: {code}", row.kind, row.id, row.state);
    }
}

/// Every file is a disk of the load or a volume that is Ready.
fn check_pool(cloud: &Cloud, rows: &[operation::Model]) {
    let disks = (0..VOLUMES.len()).map(|n| format!("disk{n}"));
    let made = rows.iter().filter(|it| it.kind == "create-volume" && it.state == "ready");
    let made = made.filter_map(|it| Some(it.subject.as_ref()?.strip_prefix("fast/")?.to_owned()));
    let known: BTreeSet<_> = disks.chain(made).collect();
    let found: BTreeSet<_> = files(&cloud.dir.path().join("pool")).into_iter().collect();
    assert_eq!(found, known, "files of the pool, and the database's volumes");
}

/// Every snapshot of which there is a reference.
async fn restore_all(cloud: &Cloud, client: &Client) -> BTreeSet<OperationId> {
    let mut restored = BTreeSet::new();
    for file in std::fs::read_dir(cloud.dir.path().join("reference")).unwrap() {
        let file = file.unwrap();
        let from: OperationId = file.file_name().to_str().unwrap().parse().unwrap();
        let name = format!("last{}", restored.len());
        let body = json!({"zone": "z1", "from": from, "pool": "fast", "volume": name, "format": "raw"});
        let made = client.ready("create-volume", &body).await;
        let equal = content(&cloud.volume(&name), "raw") == std::fs::read(file.path()).unwrap();
        assert!(equal, "{from} doesn't restore to what it was");
        client.destroy(made).await;
        restored.insert(from);
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

/// In each store, packs are those that have rows, and objects those that are Ready.
async fn check_store(cloud: &Cloud, database: &Database, rows: &[operation::Model]) {
    let packs = pack::Entity::find().all(database.read()).await.unwrap();
    let unused: Vec<_> = packs.iter().filter(|it| it.uses < 1 || it.state != "live").collect();
    assert!(unused.is_empty(), "unused packs were not swept: {unused:#?}");
    for store in STORES {
        let place = place::Entity::find().filter(place::Column::Name.eq(store)).one(database.read()).await.unwrap().unwrap();
        let known = packs.iter().filter(|it| it.place_id == place.id).map(|it| (format!("packs/{}", it.id), it.bytes));
        let stored = cloud.stored_in(store).await;
        let below = |folder: &str| -> BTreeMap<String, i64> {
            let within = stored.iter().filter(|(key, _)| key.starts_with(folder));
            within.map(|(key, bytes)| (key.clone(), *bytes)).collect()
        };
        assert_eq!(below("packs/"), known.collect::<BTreeMap<_, _>>(), "packs of {store}, and the database's");
        let ready = rows.iter().filter(|it| it.state == "ready" && it.store.as_deref() == Some(store));
        let ready: BTreeSet<_> = ready.map(|it| it.id.to_string()).collect();
        let objects = below("objects/");
        let objects: BTreeSet<_> = objects.keys().filter_map(|key| key.split('/').nth(1)).map(str::to_owned).collect();
        assert_eq!(objects, ready, "objects of {store}, and the database's");
        assert_eq!(below("clock/"), BTreeMap::new());
    }
}
