//! The probe against stores that lie.

use super::*;
use crate::store::{Entry, file::FileStore, suite};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
};

/// How a store may fall short and still look well.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    CreateReplaces,
    CreateLooksThenPuts,
    RangeIgnored,
    RangeShifted,
    RangePastTheEndIsShort,
    OldBodyRead,
    OldLengthSeen,
    LastKeyNotListed,
    NeighboursListed,
    DeleteLater,
}

/// A directory that lies.
struct Lying {
    inner: FileStore,
    lie: Lie,
    first: Mutex<HashMap<String, (Bytes, Entry)>>,
}

impl Lying {
    async fn open(directory: &Path, lie: Lie) -> Lying {
        Lying { inner: FileStore::open(directory).await.unwrap(), lie, first: Mutex::default() }
    }

    fn first(&self, key: &str) -> Option<(Bytes, Entry)> {
        self.first.lock().unwrap().get(key).cloned()
    }
}

#[async_trait]
impl Store for Lying {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        let mode = match self.lie {
            Lie::CreateReplaces => PutMode::Replace,
            Lie::CreateLooksThenPuts if mode == PutMode::Create => {
                if self.inner.head(key).await?.is_some() {
                    return Ok(Put::Existed);
                }
                PutMode::Replace
            }
            _ => mode,
        };
        let put = self.inner.put(key, body.clone(), mode).await?;
        if put == Put::Existed {
            return Ok(put);
        }
        let entry = self.inner.head(key).await?.unwrap();
        self.first.lock().unwrap().entry(key.to_owned()).or_insert((body, entry));
        Ok(put)
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let bytes = self.inner.head(key).await?.map_or(0, |it| it.bytes);
        match self.lie {
            Lie::RangeIgnored => self.inner.get(key, 0..bytes).await,
            Lie::RangeShifted if range.start > 0 => self.inner.get(key, range.start - 1..range.end - 1).await,
            Lie::RangePastTheEndIsShort => self.inner.get(key, range.start.min(bytes)..range.end.min(bytes)).await,
            Lie::OldBodyRead => Ok(self.first(key).unwrap().0),
            _ => self.inner.get(key, range).await,
        }
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        match (self.lie, self.first(key)) {
            (Lie::OldLengthSeen, Some((_, entry))) => Ok(Some(entry)),
            _ => self.inner.head(key).await,
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        match self.lie {
            Lie::LastKeyNotListed => self.inner.list(prefix).skip(1).boxed(),
            Lie::NeighboursListed => self.inner.list(prefix.split_at(prefix.len() / 2).0).boxed(),
            _ => self.inner.list(prefix),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        match self.lie {
            Lie::DeleteLater => Ok(()),
            _ => self.inner.delete(key).await,
        }
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Entry>, Fault> {
        self.inner.unfinished(prefix).await
    }

    async fn discard_unfinished(&self, key: &str) -> Result<(), Fault> {
        self.inner.discard_unfinished(key).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await
    }
}

const ALL: Capabilities = Capabilities { conditional_put: true, ..LEAST };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lie_is_found_out() {
    for (lie, wanted) in [
        (Lie::None, ALL),
        (Lie::CreateReplaces, Capabilities { conditional_put: false, ..ALL }),
        (Lie::CreateLooksThenPuts, Capabilities { conditional_put: false, ..ALL }),
        (Lie::RangeShifted, Capabilities { ranges: false, ..ALL }),
        (Lie::RangePastTheEndIsShort, Capabilities { ranges: false, ..ALL }),
        (Lie::RangeIgnored, Capabilities { ranges: false, ..ALL }),
        (Lie::OldBodyRead, Capabilities { ranges: false, overwrite_visible: false, ..ALL }),
        (Lie::OldLengthSeen, Capabilities { overwrite_visible: false, delete_visible: false, ..ALL }),
        (Lie::LastKeyNotListed, Capabilities { list_after_put: false, delete_visible: false, ..ALL }),
        (Lie::NeighboursListed, Capabilities { list_after_put: false, delete_visible: false, ..ALL }),
        (Lie::DeleteLater, Capabilities { delete_visible: false, ..ALL }),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Lying::open(directory.path(), lie).await;
        let found = try_any(&store, "probe/x/").await.unwrap();
        assert_eq!(found, wanted, "{lie:?}");
        let enough = found.ranges && found.overwrite_visible && found.list_after_put && found.delete_visible;
        assert_eq!(found.require().is_ok(), enough, "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_finds_every_lie_too() {
    for lie in [
        Lie::CreateReplaces,
        Lie::CreateLooksThenPuts,
        Lie::RangeShifted,
        Lie::RangePastTheEndIsShort,
        Lie::RangeIgnored,
        Lie::OldBodyRead,
        Lie::OldLengthSeen,
        Lie::LastKeyNotListed,
        Lie::NeighboursListed,
        Lie::DeleteLater,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Lying::open(directory.path(), lie).await);
        let end = tokio::spawn(suite::run_all(store, true)).await;
        assert!(end.is_err_and(|it| it.is_panic()), "{lie:?}");
    }
}

fn place(directory: &Path) -> site::Store {
    let url = format!("file://{}", directory.display());
    serde_json::from_value(serde_json::json!({"name": "local", "url": url, "region": "r1", "capacity": 1_u64 << 40})).unwrap()
}

#[tokio::test]
async fn a_directory_is_probed_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(probe(&place(directory.path())).await.unwrap(), ALL);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, [".tmp"]);
    let fault = probe(&place(&directory.path().join("none"))).await.unwrap_err();
    assert_eq!(fault.code, code::STORE_MISSING, "{fault}");
}

#[test]
fn capabilities_of_an_older_file_lack_what_it_does_not_name() {
    let read: Capabilities = serde_json::from_str(r#"{"ranges": true, "of_a_newer_version": 1}"#).unwrap();
    assert_eq!(read, Capabilities { ranges: true, ..Capabilities::default() });
}
