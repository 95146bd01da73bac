//! The directory store alone: hostile keys, links, limits.

use super::*;
use futures::TryStreamExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

async fn store() -> (TempDir, FileStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).await.unwrap();
    (directory, store)
}

async fn keys(store: &FileStore, prefix: &str) -> Vec<String> {
    let mut keys: Vec<_> = store.list(prefix).map_ok(|it| it.key).try_collect().await.unwrap();
    keys.sort();
    keys
}

fn temporaries(directory: &TempDir) -> usize {
    std::fs::read_dir(directory.path().join(".tmp")).unwrap().count()
}

#[tokio::test]
async fn a_directory_that_is_missing_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    for name in ["none", "file"] {
        let fault = FileStore::open(&directory.path().join(name)).await.unwrap_err();
        assert_eq!(fault.code, code::STORE_MISSING, "{fault}");
    }
    assert!(!directory.path().join("none").exists());
}

#[tokio::test]
async fn a_put_leaves_no_temporary_file_whether_it_wrote_or_not() {
    let (directory, store) = store().await;
    for (mode, want) in [(PutMode::Create, Put::Written), (PutMode::Create, Put::Existed), (PutMode::Replace, Put::Written)] {
        assert_eq!(store.put("a/b", Bytes::from_static(b"x"), mode).await.unwrap(), want);
        assert_eq!(temporaries(&directory), 0);
    }
}

#[tokio::test]
async fn to_open_a_directory_changes_nothing_in_it() {
    let directory = tempfile::tempdir().unwrap();
    FileStore::open(directory.path()).await.unwrap().ping().await.unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "an empty folder stays one");
    std::fs::create_dir(directory.path().join(".tmp")).unwrap();
    let old = std::fs::File::create(directory.path().join(".tmp/somebody's")).unwrap();
    old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(99 * 24 * 3600)).unwrap();
    FileStore::open(directory.path()).await.unwrap();
    assert!(directory.path().join(".tmp/somebody's").exists());
}

#[tokio::test]
async fn what_a_dead_writer_left_is_told_by_its_key_and_removed_alone() {
    let (directory, store) = store().await;
    for (key, body) in [("packs/a/1-0", &b"12345"[..]), ("packs/a/1-0", b"1"), ("packs/a/1-1", b""), ("packs/b/1-0", b"12")] {
        store.die_writing(key, body);
    }
    std::fs::write(directory.path().join(".tmp/strange"), "x").unwrap();
    let found = async |prefix: &str| {
        let found = store.unfinished(prefix).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|it| (it.key, it.bytes)).collect();
        found.sort();
        found
    };
    let named = |key: &str, bytes| (key.to_owned(), bytes);
    let a = [named("packs/a/1-0", 1), named("packs/a/1-0", 5), named("packs/a/1-1", 0)];
    assert_eq!(found("packs/a/").await, a);
    assert_eq!(found("").await.len(), 4);
    assert_eq!(keys(&store, "").await, [""; 0], "it isn't listed");
    assert_eq!(store.head("packs/a/1-0").await.unwrap(), None);
    store.discard_unfinished("packs/a/1-0").await.unwrap();
    store.discard_unfinished("packs/a/1-0").await.unwrap();
    assert_eq!(found("").await, [named("packs/a/1-1", 0), named("packs/b/1-0", 2)]);
    assert!(directory.path().join(".tmp/strange").exists());
}

#[tokio::test]
async fn a_writer_whose_file_was_discarded_does_not_finish_it() {
    let (directory, store) = store().await;
    for mode in [PutMode::Create, PutMode::Replace] {
        let written = temporary::Temporary::new(&store.root, "packs/a/1-0").unwrap();
        store.discard_unfinished("packs/a/1-0").await.unwrap();
        let fault = written.place(&store.root, "packs/a/1-0", mode).err().unwrap();
        assert_eq!(fault.code, code::STORE_UNAVAILABLE, "{fault}");
        assert!(!directory.path().join("packs/a/1-0").exists());
    }
}

#[tokio::test]
async fn no_symbolic_link_is_followed() {
    let (directory, store) = store().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    symlink(outside.path(), directory.path().join("out")).unwrap();
    symlink(outside.path().join("secret"), directory.path().join("link")).unwrap();

    for key in ["out/secret", "link"] {
        assert_eq!(store.get(key, 0..1).await.unwrap_err().code, code::OBJECT_MISSING, "{key}");
        assert_eq!(store.head(key).await.unwrap(), None, "{key}");
        store.delete(key).await.unwrap();
    }
    for mode in [PutMode::Create, PutMode::Replace] {
        let fault = store.put("out/new", Bytes::from_static(b"x"), mode).await.unwrap_err();
        assert_eq!(fault.code, code::STORE_MISBEHAVED, "{fault}");
    }
    let fault = store.put("link", Bytes::from_static(b"x"), PutMode::Create).await.unwrap_err();
    assert_eq!(fault.code, code::STORE_MISBEHAVED, "{fault}");
    assert_eq!(keys(&store, "").await, [""; 0]);
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "outside");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    store.put("link", Bytes::from_static(b"in"), PutMode::Replace).await.unwrap();
    assert_eq!(store.get("link", 0..2).await.unwrap(), "in");
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "outside");
}

#[tokio::test]
async fn what_is_not_an_object_is_neither_read_nor_listed_nor_removed() {
    let (directory, store) = store().await;
    store.put("a/b", Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
    std::fs::create_dir(directory.path().join("lost+found")).unwrap();
    std::fs::write(directory.path().join("lost+found/x"), "").unwrap();
    std::fs::write(directory.path().join(".hidden"), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for key in ["a", "fifo", "a/b/c"] {
        assert_eq!(store.get(key, 0..0).await.unwrap_err().code, code::OBJECT_MISSING, "{key}");
        assert_eq!(store.head(key).await.unwrap(), None, "{key}");
        store.delete(key).await.unwrap();
        let fault = store.put(key, Bytes::new(), PutMode::Create).await.unwrap_err();
        assert_eq!(fault.code, code::STORE_MISBEHAVED, "{key}: {fault}");
    }
    assert_eq!(keys(&store, "").await, ["a/b"]);
    assert!(directory.path().join("fifo").exists() && directory.path().join(".hidden").exists());
}

#[tokio::test]
async fn deleting_the_last_file_of_a_directory_removes_the_directory() {
    let (directory, store) = store().await;
    store.put("packs/a/1", Bytes::new(), PutMode::Create).await.unwrap();
    store.put("packs/b/1", Bytes::new(), PutMode::Create).await.unwrap();
    store.delete("packs/a/1").await.unwrap();
    assert!(!directory.path().join("packs/a").exists() && directory.path().join("packs/b").exists());
    store.delete("packs/b/1").await.unwrap();
    assert!(!directory.path().join("packs").exists() && directory.path().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_and_deletes_in_one_directory_do_not_lose_each_others_files() {
    let (_directory, store) = store().await;
    let tasks = (0..6).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                let key = format!("d/e/{task}");
                assert_eq!(store.put(&key, Bytes::from(key.clone()), PutMode::Create).await.unwrap(), Put::Written);
                assert_eq!(store.get(&key, 0..key.len() as u64).await.unwrap(), key);
                store.delete(&key).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
    assert_eq!(keys(&store, "").await, [""; 0]);
}

#[tokio::test]
async fn a_put_that_nobody_waits_for_gets_no_name() {
    let (directory, store) = store().await;
    let abandoned = CancellationToken::new();
    abandoned.cancel();
    let fault = write::put(&store.root, "a", b"x", PutMode::Create, &abandoned).unwrap_err();
    assert_eq!(fault.code, code::CANCELLED);
    assert!(!directory.path().join("a").exists());
    assert_eq!(temporaries(&directory), 0);
}

#[tokio::test]
async fn a_directory_that_was_exchanged_is_noticed_and_the_new_one_not_written() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("mount");
    std::fs::create_dir(&path).unwrap();
    let store = FileStore::open(&path).await.unwrap();
    store.ping().await.unwrap();
    std::fs::rename(&path, parent.path().join("moved")).unwrap();
    assert_eq!(store.ping().await.unwrap_err().code, code::STORE_MISSING);
    std::fs::create_dir(&path).unwrap();
    assert_eq!(store.ping().await.unwrap_err().code, code::STORE_UNAVAILABLE);
    let fault = store.put("a", Bytes::new(), PutMode::Create).await.unwrap_err();
    assert!(fault.is_transient() && fault.code == code::STORE_UNAVAILABLE, "{fault}");
    assert!(!parent.path().join("moved/a").exists() && !path.join("a").exists());
}

#[test]
fn system_errors_have_their_classes() {
    for (errno, want, transient) in [
        (Errno::NOSPC, code::STORE_FULL, true),
        (Errno::DQUOT, code::STORE_FULL, true),
        (Errno::ACCESS, code::STORE_DENIED, false),
        (Errno::PERM, code::STORE_DENIED, false),
        (Errno::ROFS, code::STORE_DENIED, false),
        (Errno::STALE, code::STORE_UNAVAILABLE, true),
        (Errno::IO, code::STORE_UNAVAILABLE, true),
        (Errno::TIMEDOUT, code::STORE_UNAVAILABLE, true),
        (Errno::NOTDIR, code::STORE_MISBEHAVED, false),
    ] {
        let fault = beneath::io_fault("write a", &std::io::Error::from(errno));
        assert_eq!((fault.code.as_str(), fault.is_transient()), (want, transient), "{fault}");
        assert!(fault.message.starts_with("write a: "), "{fault}");
    }
}

#[tokio::test]
async fn files_are_not_readable_by_everyone() {
    let (directory, store) = store().await;
    store.put("a/b", Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
    for path in ["a", "a/b", ".tmp"] {
        let mode = std::fs::metadata(directory.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{path} {mode:o}");
    }
}
