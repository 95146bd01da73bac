//! What killed workers left half-written in a directory: a sweep knows whose it is, and whether anybody finishes it.

use crate::rig::{Options, Parts, Rig, backup_body, make_volume, noise};
use futures::future::BoxFuture;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::{Attempt, Step, Way},
    steps::object::Copy,
    tables::step,
};
use longshore_workers::steps::Between;
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The first attempt of each copy fails, and the second waits.
struct Held(Semaphore);

#[async_trait::async_trait]
impl Between for Held {
    async fn run(
        &self,
        name: &str,
        attempt: Attempt,
        handler: &(dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync),
    ) -> Result<Value, Fault> {
        if name == Copy::NAME && attempt.way == Way::Do {
            if attempt.n == 1 {
                return Err(Fault::transient(code::INTERNAL, "the test lets it fail"));
            }
            self.0.acquire().await.unwrap().forget();
        }
        handler().await
    }
}

/// As a worker leaves it that is killed while it puts a pack.
fn leave(rig: &Rig, operation: OperationId, attempt: u32) {
    let folder = rig.dir.path().join("store/.tmp");
    std::fs::create_dir_all(&folder).unwrap();
    let name = format!("packs~{operation}~{attempt}-0~{}", uuid::Uuid::now_v7());
    std::fs::write(folder.join(name), vec![1; 1000]).unwrap();
}

/// Whose leftovers are there, sorted.
async fn left(rig: &Rig) -> Vec<String> {
    let mut left: Vec<_> = rig.store.unfinished("").await.unwrap().into_iter().map(|it| it.key).collect();
    left.sort();
    left
}

fn pack(operation: OperationId, attempt: u32) -> String {
    format!("packs/{operation}/{attempt}-0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_removes_what_nobody_finishes_and_tells_what_it_leaves() {
    let held = Arc::new(Held(Semaphore::new(1)));
    let mut options = Options { between: Some(held.clone()), calm: true, ..Options::new(Parts::Embedded) };
    options.config.lease_s = 60;
    let rig = Rig::with(options).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    make_volume(&rig.volume("other"), "raw", &noise(2, 1 << 20));
    let ready = rig.backup("disk", None).await.id;
    let copying = rig.accepted("backup-snapshot", backup_body("other", None)).await;
    rig.until("its second attempt runs", async || {
        let row = step::Entity::find_by_id((copying.0, 2)).one(rig.database.read()).await.unwrap();
        row.filter(|it| it.attempt == 2 && it.state == "running").map(drop)
    })
    .await;
    let unknown = OperationId::new();
    for (operation, attempt) in [(ready, 1), (ready, 9), (copying, 1), (copying, 2), (unknown, 1)] {
        leave(&rig, operation, attempt);
    }

    let swept = rig.ready("sweep-store", json!({"store": "main"})).await;
    let mut kept = [pack(copying, 2), pack(unknown, 1)];
    kept.sort();
    assert_eq!(left(&rig).await, kept);
    let output = swept.output.unwrap();
    assert_eq!((&output["unfinished"], &output["unfinished_left"]), (&json!(3), &json!(2000)));

    held.0.add_permits(1);
    rig.in_state(copying, "ready").await;
    assert_eq!(left(&rig).await, [pack(unknown, 1)], "its commit knows that nothing of it is copied any more");
    rig.assert_clean().await;
    rig.end().await;
}
