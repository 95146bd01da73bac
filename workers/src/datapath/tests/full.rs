//! A store without any room: what takes back needs none.

use super::{
    disk::Disk,
    rig::Rig,
    sweep::{context, list},
};
use crate::{
    datapath::{Work, commit, format::aborted_key},
    steps::{Context, OpenStore, Reach, sweep},
    store::{
        Store,
        flaky::{Flaky, Harm, Rule, Verb},
    },
};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::sweep::{Delete, List, Listed},
};
use std::{collections::HashMap, sync::Arc};

/// The rig's store, where nothing can be put before something was deleted.
struct Full {
    flaky: Arc<Flaky>,
    store: Arc<dyn Store>,
}

fn full(rig: &Rig, times: usize) -> Full {
    let fault = Fault::transient(code::STORE_FULL, "no space left");
    let rule = Rule { times, ..Rule::always(Verb::Put, "", Harm::Fail(fault)) };
    let flaky = Arc::new(Flaky::scripted(rig.store.clone(), vec![rule]));
    Full { store: flaky.clone(), flaky }
}

fn work(rig: &Rig, store: &Full, operation: OperationId) -> Work {
    Work { store: store.store.clone(), ..rig.work(operation, 2) }
}

async fn left(rig: &Rig) -> Vec<String> {
    rig.keys("").await.into_iter().map(|it| it.key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_discarded_on_a_store_that_stays_full() {
    let rig = Rig::new(64).await;
    let operation = OperationId::new();
    rig.copy(&Disk::random(100_000, 1), operation, 1, None).await.unwrap();
    for _ in 0..2 {
        commit::discard(&work(&rig, &full(&rig, usize::MAX), operation)).await.unwrap();
        assert_eq!(left(&rig).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_that_an_object_was_aborted_gets_the_room_of_what_it_takes_back() {
    for undo in ["discard", "unlink", "probe"] {
        let rig = Rig::new(64).await;
        let operation = OperationId::new();
        let copied = rig.copy(&Disk::random(100_000, 1), operation, 1, None).await.unwrap();
        if undo == "unlink" {
            rig.commit(operation, &copied.root).await.unwrap();
        }
        let store = full(&rig, 1);
        match undo {
            "discard" => commit::discard(&work(&rig, &store, operation)).await.unwrap(),
            "unlink" => commit::unlink(&work(&rig, &store, operation)).await.unwrap(),
            _ => assert_eq!(commit::probe(&work(&rig, &store, operation)).await.unwrap(), None),
        }
        let left = left(&rig).await.into_iter().filter(|it| it.starts_with("objects/")).collect::<Vec<_>>();
        assert_eq!(left, [aborted_key(operation)], "{undo}");
        assert!(store.flaky.log().iter().any(|(verb, _)| *verb == Verb::Delete), "{undo}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_commit_could_still_make_count_is_not_given_up_without_the_word() {
    let rig = Rig::new(64).await;
    let (object, _) = rig.backup(&Disk::random(100_000, 1), None).await;
    let store = full(&rig, usize::MAX);
    assert_eq!(commit::unlink(&work(&rig, &store, object)).await.unwrap_err().code, code::STORE_FULL);
    store.flaky.heal();
    commit::unlink(&work(&rig, &store, object)).await.unwrap();
    // Said once, it needn't be said again.
    commit::unlink(&work(&rig, &full(&rig, usize::MAX), object)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_is_swept_of_what_is_due() {
    let rig = Rig::new(64).await;
    let dead = OperationId::new();
    let copied = rig.copy(&Disk::random(100_000, 1), dead, 1, None).await.unwrap();
    rig.dies_writing(&format!("packs/{dead}/1-9"));
    let store = full(&rig, usize::MAX);
    let open = OpenStore { store: store.store, extent_size: rig.extent_size, checks_bodies: true };
    let reach = Reach { stores: HashMap::from([("main".to_owned(), open)]), ..Reach::default() };
    let context = Context { reach: Arc::new(reach), ..context(&rig) };
    let step = List { store: "main".into(), older_than_s: 0, limit: 10 };
    let found = sweep::list(context.clone(), step, ()).await.unwrap();
    assert_eq!(Listed { unfinished: vec![], ..found.clone() }, Listed::default());
    assert_eq!(found.unfinished.len(), 1);
    // What the books say is due goes, whatever was found.
    let chosen = longshore_schema::steps::sweep::Chosen {
        packs: copied.packs.iter().map(|it| it.id.clone()).collect(),
        unfinished: vec![found.unfinished[0].key.clone()],
        objects: vec![dead],
        remains: vec![],
    };
    sweep::delete(context, Delete { store: "main".into() }, chosen).await.unwrap();
    assert_eq!((left(&rig).await, rig.unfinished().await), (vec![], vec![]));
    assert_eq!(list(&rig, 0, 10).await, Listed::default());
}
