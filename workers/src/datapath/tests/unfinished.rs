//! What killed workers left half-written goes with the operation's next attempt, its undo, or a sweep.

use super::{
    disk::Disk,
    rig::Rig,
    sweep::{context, list},
};
use crate::{
    datapath::{commit, format::ready_key},
    steps::sweep,
};
use longshore_schema::{
    ids::OperationId,
    steps::sweep::{Chosen, Delete},
};

fn keys_of(operation: OperationId, attempt: u32) -> [String; 2] {
    [format!("objects/{operation}/{attempt}.manifest"), format!("packs/{operation}/{attempt}-0")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_removes_what_the_last_one_left_and_nobody_elses() {
    let rig = Rig::new(64).await;
    let (operation, other) = (OperationId::new(), OperationId::new());
    for key in [keys_of(operation, 1), keys_of(operation, 3), keys_of(other, 1)].concat() {
        rig.dies_writing(&key);
    }
    let disk = Disk::random(100_000, 1);
    let copied = rig.copy(&disk, operation, 2, None).await.unwrap();
    let mut left = [keys_of(operation, 3), keys_of(other, 1)].concat();
    left.sort();
    assert_eq!(rig.unfinished().await, left);
    rig.dies_writing(&ready_key(operation));
    rig.commit(operation, &copied.root).await.unwrap();
    assert_eq!(rig.unfinished().await, keys_of(other, 1));
    assert!(rig.restore(operation, &copied.root).await.unwrap() == disk.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_removes_all_that_the_operation_left() {
    for undo in ["discard", "unlink"] {
        let rig = Rig::new(64).await;
        let (operation, other) = (OperationId::new(), OperationId::new());
        for key in [keys_of(operation, 1), keys_of(operation, 2), keys_of(other, 1)].concat() {
            rig.dies_writing(&key);
        }
        match undo {
            "discard" => commit::discard(&rig.work(operation, 3)).await.unwrap(),
            _ => commit::unlink(&rig.work(operation, 3)).await.unwrap(),
        }
        assert_eq!(rig.unfinished().await, keys_of(other, 1), "{undo}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_tells_what_is_unfinished_at_any_age_and_removes_what_was_chosen() {
    let rig = Rig::new(64).await;
    let (one, two) = (OperationId::new(), OperationId::new());
    for key in [keys_of(one, 1), keys_of(two, 1)].concat() {
        rig.dies_writing(&key);
    }
    rig.dies_writing(&ready_key(one));
    rig.dies_writing("probe/x");
    let mut found = list(&rig, 3600, 10).await.unfinished;
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found.len(), 5, "{found:?}");
    let chosen: Vec<String> = found.iter().filter(|it| it.operation == one).map(|it| it.key.clone()).collect();
    assert_eq!(found.iter().filter(|it| it.attempt == Some(1) && it.bytes == 4096).count(), 4);
    let chosen = Chosen { unfinished: chosen, ..Chosen::default() };
    let removed = sweep::delete(context(&rig), Delete { store: "main".into() }, chosen).await.unwrap();
    assert_eq!(removed.keys, 3);
    assert_eq!(rig.unfinished().await, [keys_of(two, 1).to_vec(), vec!["probe/x".to_owned()]].concat());
}
