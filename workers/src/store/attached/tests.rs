//! Every way in which another store can come to a url while a worker has it open.

use super::*;
use crate::store::{file::FileStore, probe::LEAST};
use futures::TryStreamExt;
use longshore_schema::time::Timestamp;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use uuid::Uuid;

/// A store at `url`, which is a symbolic link, and a place for others beside it.
struct Site {
    folder: TempDir,
    owner: Uuid,
    store: Attached,
}

async fn found(directory: &Path, owner: Uuid) -> Description {
    fs::create_dir_all(directory).unwrap();
    let store = FileStore::open(directory).await.unwrap();
    description::found(&store, 64 << 10, owner, LEAST).await.unwrap()
}

impl Site {
    async fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let (right, owner) = (folder.path().join("right"), Uuid::now_v7());
        let founded = found(&right, owner).await;
        symlink(&right, folder.path().join("url")).unwrap();
        let inner = FileStore::open(&folder.path().join("url")).await.unwrap();
        let store = Attached::new(Arc::new(inner), founded).unwrap();
        store.put("packs/a", Bytes::from_static(b"precious"), PutMode::Create).await.unwrap();
        Site { folder, owner, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lead_to(&self, name: &str) {
        fs::remove_file(self.path("url")).unwrap();
        symlink(self.path(name), self.path("url")).unwrap();
    }

    fn take_over(&self, name: &str) {
        fs::copy(self.path(name).join(KEY), self.path("right").join(KEY)).unwrap();
    }

    /// What every request that writes, lists, removes or misses something says.
    async fn says(&self) -> Vec<Fault> {
        let store = &self.store;
        vec![
            store.put("packs/b", Bytes::new(), PutMode::Create).await.unwrap_err(),
            store.put("packs/a", Bytes::new(), PutMode::Replace).await.unwrap_err(),
            store.get("packs/b", 0..1).await.unwrap_err(),
            store.head("packs/b").await.unwrap_err(),
            store.list("packs/").try_collect::<Vec<_>>().await.unwrap_err(),
            store.delete("packs/a").await.unwrap_err(),
            store.unfinished("").await.unwrap_err(),
            store.discard_unfinished("packs/a").await.unwrap_err(),
        ]
    }
}

/// All files below a folder with their content, temporary folders aside.
fn all(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push((path.clone(), fs::read(path).unwrap())) }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn whatever_is_exchanged_nothing_is_written_or_removed_on_either_side_and_the_right_one_is_taken_back() {
    let gone: fn(&Site) = |it| fs::remove_file(it.path("url")).unwrap();
    let empty: fn(&Site) = |it| it.lead_to("empty");
    let foreign: fn(&Site) = |it| it.lead_to("foreign");
    let anew: fn(&Site) = |it| it.lead_to("anew");
    // The folder is the same one, and what is in it isn't.
    let content: fn(&Site) = |it| it.take_over("foreign");
    let content_anew: fn(&Site) = |it| it.take_over("anew");
    let emptied: fn(&Site) = |it| fs::remove_file(it.path("right/store.json")).unwrap();
    let cut: fn(&Site) = |it| fs::write(it.path("right/store.json"), "{").unwrap();
    for (what, exchange, code) in [
        ("the folder is gone", gone, code::STORE_MISSING),
        ("nothing is mounted", empty, code::STORE_UNAVAILABLE),
        ("another database's store", foreign, code::STORE_UNAVAILABLE),
        ("a store that the same database founded anew", anew, code::STORE_UNAVAILABLE),
        ("another database's content", content, code::STORE_FOREIGN),
        ("content that the same database founded anew", content_anew, code::STORE_FOREIGN),
        ("no store.json any more", emptied, code::STORE_MISSING),
        ("a store.json that can't be read", cut, code::STORE_FOREIGN),
    ] {
        let site = Site::new().await;
        fs::create_dir(site.path("empty")).unwrap();
        found(&site.path("foreign"), Uuid::now_v7()).await;
        found(&site.path("anew"), site.owner).await;
        let good = fs::read(site.path("right/store.json")).unwrap();
        exchange(&site);
        let before = all(site.folder.path());
        for fault in site.says().await {
            assert!(fault.code == code && fault.is_transient(), "{what}: {fault} ({:?})", fault.class);
        }
        assert_eq!(site.store.ping().await.unwrap_err().code, code, "{what}");
        assert!(all(site.folder.path()) == before, "{what}: something was written or removed");

        fs::write(site.path("right/store.json"), good).unwrap();
        let _ = fs::remove_file(site.path("url"));
        symlink(site.path("right"), site.path("url")).unwrap();
        site.store.delete("packs/a").await.unwrap();
        site.store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_was_only_tried_out_again_is_the_same() {
    let site = Site::new().await;
    let text = fs::read_to_string(site.path("right/store.json")).unwrap();
    for (from, to) in [("\"multipart\": false", "\"multipart\": true"), ("\"multipart\": true", "\"multipart\": false ")] {
        let changed = text.replace("\"multipart\": false", from).replace(from, to);
        fs::write(site.path("right/store.json"), changed).unwrap();
        site.store.put("packs/b", Bytes::new(), PutMode::Replace).await.unwrap();
        site.store.ping().await.unwrap();
    }
}

#[test]
fn a_founding_is_told_by_its_time_too() {
    let one = Description {
        format_version: 1,
        extent_size: 65536,
        capabilities: LEAST,
        incarnation: Uuid::nil(),
        created: Timestamp(1),
    };
    assert!(one.is_of_the_founding(&Description { capabilities: Default::default(), ..one.clone() }));
    assert!(!one.is_of_the_founding(&Description { created: Timestamp(2), ..one.clone() }));
    assert!(!one.is_of_the_founding(&Description { incarnation: Uuid::max(), ..one.clone() }));
}
