//! Two stores and two pools in one site: what is done in one leaves the other as it is.

use crate::rig::{Options, Parts, Rig, content, keys, make_volume, noise};
use longshore_courier::embedded::Mischief;
use longshore_engine::audit::{self, OperationView};
use longshore_schema::{fault::code, ids::OperationId, tables::pack};
use longshore_workers::store::Store;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};

/// Bytes of the volume of one pool; that of the other one has a MiB more.
const SIZE: usize = 2 << 20;

fn body(pool: &str, store: &str) -> Value {
    json!({"zone": "z1", "pool": pool, "volume": "disk", "store": store})
}

async fn back_up(rig: &Rig, pool: &str, store: &str) -> OperationView {
    rig.ready("backup-snapshot", body(pool, store)).await
}

fn base(object: &OperationView) -> Value {
    object.output.as_ref().unwrap()["base"].clone()
}

/// A file of a pool.
fn file(rig: &Rig, pool: &str, name: &str) -> PathBuf {
    rig.dir.path().join(if pool == "fast" { "pool" } else { pool }).join(name)
}

/// The volume of that pool is made anew from an object, with that content.
async fn assert_restores(rig: &Rig, from: OperationId, pool: &str, name: &str, wanted: &[u8]) {
    let body = json!({"zone": "z1", "from": from, "pool": pool, "volume": name, "format": "raw"});
    rig.ready("create-volume", body).await;
    assert!(content(&file(rig, pool, name), "raw") == wanted, "{name} in {pool}");
}

/// Packs in a store, with their lengths.
async fn packs(store: &dyn Store) -> BTreeMap<String, u64> {
    let mut keys = keys(store).await;
    keys.retain(|key, _| key.starts_with("packs/"));
    keys
}

/// The grace of what nobody needs is over.
async fn let_go(rig: &Rig) {
    let past =
        pack::Entity::update_many().col_expr(pack::Column::NotBefore, Expr::value(0_i64)).filter(pack::Column::State.ne("live"));
    let done = rig.database.transact(move |tx| Box::pin(async move { Ok(past.exec(tx).await?.rows_affected) }));
    assert!(done.await.unwrap() > 0, "nothing was condemned");
}

/// Bytes that are used in each place of a role.
async fn used(rig: &Rig, role: &str) -> BTreeMap<String, u64> {
    let places = audit::places(rig.database.read(), role).await.unwrap();
    places.into_iter().map(|it| (it.name, it.used)).collect()
}

/// One period for ever: the engine sweeps each store by itself once, here, and never again.
async fn past_the_engines_own_sweeps(rig: &Rig) {
    for store in ["main", "other"] {
        let dead = back_up(rig, "fast", store).await;
        rig.destroyed(dead.id).await;
    }
    let_go(rig).await;
    rig.until("the engine's own sweeps", async || {
        let rows = pack::Entity::find().all(rig.database.read()).await.unwrap();
        rows.is_empty().then_some(())
    })
    .await;
}

pub(crate) async fn two_stores_and_two_pools_of_one_site_keep_to_themselves(parts: Parts) -> Mischief {
    let mut options = Options { two: true, grace_s: 3600, ..Options::new(parts) };
    options.config.sweep_every_s = u32::MAX;
    let rig = Rig::with(options).await;
    let (main, other) = (&*rig.store, rig.other());
    let (fast, slow) = (noise(1, SIZE), noise(2, SIZE + (1 << 20)));
    make_volume(&file(&rig, "fast", "disk"), "raw", &fast);
    make_volume(&file(&rig, "slow", "disk"), "raw", &slow);
    past_the_engines_own_sweeps(&rig).await;

    // A base is the latest of its own store, though the latest of all is in the other one; and of its own pool's volume.
    let in_main = back_up(&rig, "fast", "main").await;
    let in_other = back_up(&rig, "fast", "other").await;
    let again_in_main = back_up(&rig, "fast", "main").await;
    let again_in_other = back_up(&rig, "fast", "other").await;
    let of_slow = back_up(&rig, "slow", "main").await;
    assert_eq!([&in_main, &in_other, &of_slow].map(base), [json!(null), json!(null), json!(null)]);
    assert_eq!([&again_in_main, &again_in_other].map(base), [json!(in_main.id), json!(in_other.id)]);
    let mut foreign = body("fast", "main");
    foreign["base"] = json!(in_other.id);
    let refused = rig.submit("backup-snapshot", foreign).await;
    assert_eq!(refused.fault.map(|it| it.code), Some(code::OBJECT_WRONG_KIND.to_owned()));
    assert_restores(&rig, again_in_other.id, "slow", "new", &fast).await;
    assert_restores(&rig, of_slow.id, "fast", "new", &slow).await;
    let booked = used(&rig, "pool").await;
    assert_eq!(booked["fast"], booked["slow"] + (1 << 20) + 512, "in each the other one's volume was made");

    // In both stores there is something to sweep; a sweep of one is none of the other.
    for it in [&in_main, &again_in_main, &in_other, &again_in_other] {
        rig.destroyed(it.id).await;
    }
    let_go(&rig).await;
    let (there, before) = (packs(other).await, used(&rig, "store").await);
    assert!(!there.is_empty());
    rig.ready("sweep-store", json!({"store": "main"})).await;
    let left = packs(main).await;
    assert!(!left.is_empty() && left.keys().all(|it| it.starts_with(&format!("packs/{}/", of_slow.id))), "{left:?}");
    assert_eq!(packs(other).await, there, "packs of the other store");
    let rows = pack::Entity::find().filter(pack::Column::State.eq("condemned")).all(rig.database.read()).await.unwrap();
    let rows: BTreeMap<_, _> = rows.into_iter().map(|it| (format!("packs/{}", it.id), it.bytes as u64)).collect();
    assert_eq!(rows, there, "rows of the other store's packs");
    let after = used(&rig, "store").await;
    assert!(after["main"] < before["main"] && after["other"] == before["other"], "{before:?}, then {after:?}");

    rig.ready("sweep-store", json!({"store": "other"})).await;
    assert!(packs(other).await.is_empty());
    assert_eq!(used(&rig, "store").await["other"], 0);
    assert_restores(&rig, of_slow.id, "fast", "last", &slow).await;
    rig.assert_clean().await;
    rig.end().await
}

/// The contract's rigs have two directories.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_beside_s3_and_one_beside_swift_keep_to_themselves() {
    for parts in [Parts::EmbeddedS3, Parts::EmbeddedSwift] {
        two_stores_and_two_pools_of_one_site_keep_to_themselves(parts).await;
    }
}
