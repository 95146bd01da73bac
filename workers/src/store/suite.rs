//! What every store must do, as checks that run against any of them: in tests of a backend, and of a
//! decorator. They panic when a store falls short, and leave nothing behind when it doesn't.

mod creating;
mod listing;
mod reading;
pub mod s3;
mod service;
pub mod swift;

use super::{Put, PutMode, Store};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use longshore_schema::fault::{Fault, code};
use std::sync::Arc;
use uuid::Uuid;

type Check = fn(Scratch) -> BoxFuture<'static, ()>;

/// By name, which says what must hold. Those that race creators need a store that can create safely.
const CHECKS: &[(&str, bool, Check)] = &[
    ("a create never replaces", false, |it| Box::pin(creating::never_replaces(it))),
    ("a replace replaces whatever was there", false, |it| Box::pin(creating::replaces(it))),
    ("of racing creators exactly one writes", true, |it| Box::pin(creating::one_of_many(it))),
    ("a reader never sees a part of a body or two bodies mixed", false, |it| Box::pin(creating::whole_or_nothing(it))),
    ("many puts and gets at once keep apart", false, |it| Box::pin(creating::many_at_once(it))),
    ("a delete is done when it returns, and may be repeated", false, |it| Box::pin(creating::deletes(it))),
    ("a body of 64 MiB comes back whole and in parts", false, |it| Box::pin(reading::large(it))),
    ("an empty body is an object", false, |it| Box::pin(reading::empty(it))),
    ("every range is exact or missing", false, |it| Box::pin(reading::ranges(it))),
    ("what is missing is missing", false, |it| Box::pin(reading::missing(it))),
    ("no hostile key is taken", false, |it| Box::pin(reading::hostile_keys(it))),
    ("a list has exactly the keys that start with its prefix", false, |it| Box::pin(listing::prefixes(it))),
    ("a list of many pages has every key once", false, |it| Box::pin(listing::pages(it))),
];

/// A store and a prefix of its own for one check.
#[derive(Clone)]
pub(super) struct Scratch {
    store: Arc<dyn Store>,
    prefix: String,
}

impl Scratch {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn put(&self, name: &str, body: impl Into<Bytes>, mode: PutMode) -> Put {
        self.store.put(&self.key(name), body.into(), mode).await.expect("put")
    }

    async fn all(&self, name: &str) -> Bytes {
        let key = self.key(name);
        let found = self.store.head(&key).await.expect("head").expect("the key is there");
        self.store.get(&key, 0..found.bytes).await.expect("get")
    }

    async fn list(&self, prefix: &str) -> Vec<(String, u64)> {
        let entries = self.store.list(&self.key(prefix)).map_ok(|it| (it.key, it.bytes));
        let mut entries: Vec<_> = entries.try_collect().await.expect("list");
        entries.sort();
        entries
    }

    async fn clean(&self) -> Result<(), Fault> {
        let left: Vec<_> = self.store.list(&self.prefix).try_collect().await?;
        let deletes = left.into_iter().map(|it| {
            let store = self.store.clone();
            async move { store.delete(&it.key).await }
        });
        stream::iter(deletes).buffer_unordered(16).try_collect().await
    }
}

/// Runs every check below `suite/{uuid}/` and removes what they wrote. Prints their names. `creates_safely` is
/// whether racing creators are expected to be told apart: `Capabilities::conditional_put`, and always for `file`.
pub async fn run_all(store: Arc<dyn Store>, creates_safely: bool) {
    store.ping().await.expect("the store answers");
    let run = Uuid::now_v7();
    for (n, (name, races, check)) in CHECKS.iter().enumerate() {
        if *races && !creates_safely {
            println!("store: {name}: not asked of this store");
            continue;
        }
        println!("store: {name}");
        let scratch = Scratch { store: store.clone(), prefix: format!("suite/{run}/{n}/") };
        check(scratch.clone()).await;
        scratch.clean().await.expect("clean up");
        assert_eq!(scratch.list("").await, [], "left after {name}");
    }
}

/// Fills a store of at most some MiB: what doesn't fit is `store.full`, leaves nothing behind, does no harm to
/// what is there, and fits once there is room.
pub async fn run_full(store: Arc<dyn Store>) {
    let scratch = Scratch { store, prefix: format!("suite/{}/", Uuid::now_v7()) };
    let body = |n: u64| bytes(300_000, n);
    let mut fitted = 0;
    let fault = loop {
        match scratch.store.put(&scratch.key(&fitted.to_string()), body(fitted), PutMode::Create).await {
            Ok(_) => fitted += 1,
            Err(fault) => break fault,
        }
        assert!(fitted < 1000, "the store is too large for this check");
    };
    assert!(fault.code == code::STORE_FULL && fault.is_transient(), "{fault}");
    assert!(fitted > 0, "the store was full from the beginning");
    for (n, (_, length)) in scratch.list("").await.iter().enumerate() {
        assert_eq!(*length, 300_000, "object {n}");
    }
    assert_eq!(scratch.list("").await.len() as u64, fitted);
    scratch.store.delete(&scratch.key("0")).await.expect("delete");
    assert_eq!(scratch.put(&fitted.to_string(), body(fitted), PutMode::Create).await, Put::Written);
    for n in 1..=fitted {
        assert!(scratch.all(&n.to_string()).await == body(n), "object {n}");
    }
    scratch.clean().await.expect("clean up");
}

/// Bytes that differ everywhere and from seed to seed.
fn bytes(length: usize, seed: u64) -> Bytes {
    let mut body = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut body);
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{counted::Counted, file::FileStore, flaky::Flaky};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_file_store_does_all_that_a_store_must() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).await.unwrap();
        run_all(Arc::new(store), true).await;
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, [".tmp"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn decorators_that_do_nothing_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::open(directory.path()).await.unwrap());
        run_all(Arc::new(Counted::new(Arc::new(Flaky::scripted(store, vec![])))), true).await;
    }
}
