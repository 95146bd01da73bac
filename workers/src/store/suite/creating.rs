//! Checks of writing and removing.

use super::{Scratch, bytes};
use crate::store::{Put, PutMode};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use longshore_schema::fault::code;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};
use tokio::sync::Barrier;

const RACERS: usize = 8;
const ROUNDS: usize = 12;

pub(super) async fn never_replaces(it: Scratch) {
    assert_eq!(it.put("a/b", "first", PutMode::Create).await, Put::Written);
    for body in ["first", "second", ""] {
        assert_eq!(it.put("a/b", body, PutMode::Create).await, Put::Existed, "{body:?}");
        assert_eq!(it.all("a/b").await, "first");
    }
}

pub(super) async fn replaces(it: Scratch) {
    for body in ["first", "second, and longer", "3rd", "", "last"] {
        assert_eq!(it.put("a", body, PutMode::Replace).await, Put::Written, "{body:?}");
        assert_eq!(it.all("a").await, body);
    }
    assert_eq!(it.put("a", "created", PutMode::Create).await, Put::Existed);
}

pub(super) async fn one_of_many(it: Scratch) {
    for round in 0..ROUNDS {
        let key = it.key(&format!("race/{round}"));
        let start = Arc::new(Barrier::new(RACERS));
        let racers = (0..RACERS).map(|racer| {
            let (store, key, start) = (it.store.clone(), key.clone(), start.clone());
            tokio::spawn(async move {
                let body = bytes(10_000 + racer, racer as u64);
                start.wait().await;
                store.put(&key, body, PutMode::Create).await.expect("put")
            })
        });
        let ends = try_join_all(racers).await.expect("no racer panics");
        let winners: Vec<_> = (0..RACERS).filter(|racer| ends[*racer] == Put::Written).collect();
        let &[winner] = winners.as_slice() else { panic!("round {round} was won by {winners:?}") };
        assert!(it.all(&format!("race/{round}")).await == bytes(10_000 + winner, winner as u64), "round {round}");
    }
}

pub(super) async fn whole_or_nothing(it: Scratch) {
    const LENGTH: usize = 300_000;
    let key = it.key("whole");
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, key, done) = (it.store.clone(), key.clone(), done.clone());
        async move {
            let (mut seen, mut last) = (0, false);
            while !last {
                last = done.load(SeqCst);
                match store.get(&key, 0..LENGTH as u64).await {
                    Ok(body) => {
                        assert!(body.iter().all(|byte| *byte == body[0]), "two bodies mixed");
                        seen += 1;
                    }
                    Err(fault) => assert!(fault.code == code::OBJECT_MISSING && seen == 0, "after {seen} reads: {fault}"),
                }
            }
            seen
        }
    });
    let writers = (0..3_u8).map(|writer| {
        let (store, key) = (it.store.clone(), key.clone());
        tokio::spawn(async move {
            for n in 0..8_u8 {
                let body = Bytes::from(vec![writer * 8 + n; LENGTH]);
                store.put(&key, body, PutMode::Replace).await.expect("put");
            }
        })
    });
    try_join_all(writers).await.expect("no writer panics");
    done.store(true, SeqCst);
    assert!(reader.await.expect("the reader only saw whole bodies") > 0);
}

pub(super) async fn many_at_once(it: Scratch) {
    let tasks = (0..24_u64).map(|n| {
        let it = it.clone();
        async move {
            let (name, body) = (format!("d{}/{n}", n % 3), bytes(100_000 + n as usize, n));
            assert_eq!(it.put(&name, body.clone(), PutMode::Create).await, Put::Written);
            assert!(it.all(&name).await == body, "{name}");
        }
    });
    join_all(tasks).await;
    assert_eq!(it.list("").await.len(), 24);
}

pub(super) async fn deletes(it: Scratch) {
    it.put("d/a", "a", PutMode::Create).await;
    it.put("d/b", "b", PutMode::Create).await;
    for _ in 0..3 {
        it.store.delete(&it.key("d/a")).await.expect("delete");
        assert_eq!(it.store.head(&it.key("d/a")).await.expect("head"), None);
        assert_eq!(it.list("d/").await, [(it.key("d/b"), 1)]);
    }
    it.store.delete(&it.key("never/was")).await.expect("delete what never was");
    assert_eq!(it.put("d/a", "again", PutMode::Create).await, Put::Written);
    assert_eq!(it.all("d/a").await, "again");
}
