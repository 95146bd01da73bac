//! Another store comes to the url right before a step commits or removes something: the step is refused, neither store is
//! changed by it, and when the right one is back, all goes on as if nothing had been.

use crate::rig::{Options, Parts, Rig, backup_body, content, make_volume, noise};
use bytes::Bytes;
use futures::{TryStreamExt, future::BoxFuture};
use longshore_schema::{
    fault::{Fault, code},
    step::{Attempt, Way},
};
use longshore_workers::{
    steps::Between,
    store::{
        PutMode, Store,
        description::{self, KEY},
    },
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// `store.json` is another database's; all else is the same.
    Foreign,
    /// `store.json` is gone.
    Lost,
    /// Everything was removed, and the same database founded a store there.
    Anew,
    /// Only for directories: the folder was moved away, and a copy of it with another owner is in its place.
    Moved,
}

type Content = BTreeMap<String, Bytes>;
type Handler<'h> = dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync + 'h;

struct Exchanger {
    how: How,
    /// Before which step, the next time that it is done.
    before: Mutex<Option<(&'static str, Way)>>,
    /// Which step fails for good.
    fails: Mutex<Option<&'static str>>,
    store: OnceLock<(Arc<dyn Store>, PathBuf)>,
    /// What the steps said.
    met: Mutex<Vec<Fault>>,
}

async fn all(store: &dyn Store) -> Content {
    let keys: Vec<_> = store.list("").try_collect().await.unwrap();
    let mut content = Content::new();
    for entry in keys {
        content.insert(entry.key.clone(), store.get(&entry.key, 0..entry.bytes).await.unwrap());
    }
    content
}

async fn put_all(store: &dyn Store, content: &Content) {
    for key in all(store).await.keys().filter(|key| !content.contains_key(*key)) {
        store.delete(key).await.unwrap();
    }
    for (key, body) in content {
        store.put(key, body.clone(), PutMode::Replace).await.unwrap();
    }
}

/// The same text with another owner.
fn foreign(text: &[u8]) -> Vec<u8> {
    let mut parsed: Value = serde_json::from_slice(text).unwrap();
    parsed["incarnation"] = uuid::Uuid::now_v7().to_string().into();
    serde_json::to_vec_pretty(&parsed).unwrap()
}

impl Exchanger {
    async fn exchanged(&self, handler: &Handler<'_>) -> Result<Value, Fault> {
        let (store, folder) = self.store.get().unwrap();
        let (away, wrong) = (folder.with_extension("away"), folder.with_extension("wrong"));
        if self.how == How::Moved {
            crate::rig::tool("cp", &["-r", folder.to_str().unwrap(), wrong.to_str().unwrap()]);
            std::fs::write(wrong.join(KEY), foreign(&std::fs::read(wrong.join(KEY)).unwrap())).unwrap();
            let before = (listing(folder), listing(&wrong));
            std::fs::rename(folder, &away).unwrap();
            std::fs::rename(&wrong, folder).unwrap();
            let done = handler().await;
            assert!((listing(&away), listing(folder)) == before, "{done:?}");
            std::fs::remove_dir_all(folder).unwrap();
            std::fs::rename(&away, folder).unwrap();
            return done;
        }
        let right = all(&**store).await;
        let text = right[KEY].clone();
        match self.how {
            How::Foreign => drop(store.put(KEY, foreign(&text).into(), PutMode::Replace).await.unwrap()),
            How::Lost => store.delete(KEY).await.unwrap(),
            How::Anew => {
                let founded = description::read(&**store).await.unwrap();
                put_all(&**store, &Content::new()).await;
                let (size, owner) = (founded.extent_size, founded.incarnation);
                description::found(&**store, size, owner, founded.capabilities).await.unwrap();
            }
            How::Moved => unreachable!("done above"),
        }
        let before = all(&**store).await;
        let done = handler().await;
        assert!(all(&**store).await == before, "{:?}: the wrong store was changed: {done:?}", self.how);
        put_all(&**store, &right).await;
        done
    }
}

/// All files of a folder with their lengths, but for temporary ones.
fn listing(folder: &std::path::Path) -> String {
    crate::rig::tool("find", &[folder.to_str().unwrap(), "-type", "f", "-not", "-path", "*/.tmp/*", "-printf", "%P %s\n"])
}

#[async_trait::async_trait]
impl Between for Exchanger {
    async fn run(
        &self,
        name: &str,
        attempt: Attempt,
        handler: &(dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync),
    ) -> Result<Value, Fault> {
        if attempt.way == Way::Do && *self.fails.lock().unwrap() == Some(name) {
            return Err(Fault::permanent(code::INTERNAL, "the test lets it fail"));
        }
        let meant = self.before.lock().unwrap().take_if(|(step, way)| *step == name && *way == attempt.way);
        if meant.is_none() {
            return handler().await;
        }
        let done = self.exchanged(handler).await;
        if done.as_ref().is_ok_and(|done| done["keys"] == 0) {
            // An earlier sweep, under way still, that had nothing to remove: the next one is meant.
            *self.before.lock().unwrap() = meant;
        }
        self.met.lock().unwrap().extend(done.as_ref().err().cloned());
        done
    }
}

async fn every_step_waits_for_the_right_store(parts: Parts, how: How) {
    let exchanger = Arc::new(Exchanger {
        how,
        before: Mutex::default(),
        fails: Mutex::default(),
        store: OnceLock::new(),
        met: Mutex::default(),
    });
    // No attempt is lost.
    let mut options = Options { between: Some(exchanger.clone()), calm: true, ..Options::new(parts) };
    options.config.lease_s = 60;
    let rig = Rig::with(options).await;
    assert!(exchanger.store.set((rig.store.clone(), rig.dir.path().join("store"))).is_ok());
    let next = |step, way| {
        let met = exchanger.met.lock().unwrap().len();
        *exchanger.before.lock().unwrap() = Some((step, way));
        met
    };
    let met = |before: usize, step: &str| {
        let met = exchanger.met.lock().unwrap();
        let fault = met.get(before).unwrap_or_else(|| panic!("{how:?}: {step} was done in the wrong store"));
        let wanted = match how {
            How::Foreign | How::Anew => [code::STORE_FOREIGN; 2],
            How::Lost => [code::STORE_MISSING; 2],
            How::Moved => [code::STORE_UNAVAILABLE, code::STORE_MISSING],
        };
        assert!(wanted.contains(&&*fault.code) && fault.is_transient(), "{how:?} before {step}: {fault}");
    };
    let bytes = noise(1, 2 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);

    let before = next("object.commit", Way::Do);
    let backup = rig.backup("disk", None).await;
    met(before, "object.commit");
    rig.restore(backup.id, "new", "raw").await;
    assert!(content(&rig.volume("new"), "raw") == bytes);

    *exchanger.fails.lock().unwrap() = Some("object.commit");
    let before = next("object.discard", Way::Undo);
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    rig.in_state(id, "failed").await;
    met(before, "object.discard");
    *exchanger.fails.lock().unwrap() = None;

    let before = next("object.unlink", Way::Undo);
    rig.destroyed(backup.id).await;
    met(before, "object.unlink");

    make_volume(&rig.volume("other"), "raw", &noise(2, 1 << 20));
    let other = rig.backup("other", None).await;
    let before = next("sweep.delete", Way::Do);
    rig.destroyed(other.id).await;
    rig.until("a sweep met the wrong store", async || (exchanger.met.lock().unwrap().len() > before).then_some(())).await;
    met(before, "sweep.delete");
    rig.assert_clean().await;
    let left: Vec<_> = rig.keys().await.into_keys().filter(|it| it.starts_with("packs/")).collect();
    assert_eq!(left, [""; 0], "{how:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_exchanged_is_neither_committed_to_nor_emptied() {
    for how in [How::Foreign, How::Lost, How::Anew, How::Moved] {
        every_step_waits_for_the_right_store(Parts::Embedded, how).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_exchanged_is_neither_committed_to_nor_emptied() {
    for how in [How::Foreign, How::Lost, How::Anew] {
        every_step_waits_for_the_right_store(Parts::EmbeddedS3, how).await;
    }
}
