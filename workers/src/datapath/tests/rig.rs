//! One store in a scratch folder, with a decorator that counts and fails, and the data path's verbs in short.

use super::disk::{Disk, Draft};
use crate::{
    datapath::{
        Tuning, Work, commit,
        copy::{Copying, copy},
        object::ObjectReader,
        restore::{Source, restore},
        verify::verify,
    },
    hypervisor::{BlockRead, BlockWrite},
    lease::Lease,
    store::{Entry, Put, PutMode, Store, file::FileStore},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, stream::BoxStream};
use longshore_schema::{
    fault::{Fault, code},
    ids::{OperationId, PackId},
    step::{Attempt, Way},
    steps::object::{About, Base, Committed, Copied, Root, Verified},
    time::Timestamp,
};
use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::watch;

pub(super) const KIB: usize = 1 << 10;

/// The real store, counting what is put and failing when told to.
pub(super) struct Watched {
    inner: FileStore,
    pub(super) watch: Mutex<Watch>,
    /// How many puts had their effect since `Rig::dies_at`.
    done: watch::Sender<usize>,
}

#[derive(Default)]
pub(super) struct Watch {
    /// Every body that was put.
    pub(super) puts: Vec<(String, u64)>,
    dying: Option<Dying>,
    /// Bytes that were got.
    pub(super) got: u64,
}

/// A store that goes away in the middle of a copy. Puts run side by side, so which of them had their effect is decided by
/// the pack's number, and those that fail do so after the others are done.
struct Dying {
    /// The first put that fails.
    at: usize,
    /// Those that came until now.
    seen: usize,
    /// Whether the first failing put has its effect all the same.
    late: bool,
}

impl Watched {
    /// Before which put, if any, this one must fail, and whether after the fact.
    fn fails(&self, key: &str) -> Option<(usize, bool)> {
        let mut watch = self.watch.lock().unwrap();
        let dying = watch.dying.as_mut()?;
        // What isn't a pack comes after all packs.
        let number = PackId::of_key(key).map_or(dying.seen, |pack| pack.n as usize);
        dying.seen += 1;
        (number >= dying.at).then_some((dying.at, number == dying.at && dying.late))
    }
}

#[async_trait]
impl Store for Watched {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        let fails = self.fails(key);
        if let Some((before, late)) = fails {
            self.done.subscribe().wait_for(|done| *done >= before).await.unwrap();
            if !late {
                return Err(Fault::transient(code::STORE_UNAVAILABLE, "told to fail"));
            }
        }
        self.watch.lock().unwrap().puts.push((key.to_owned(), body.len() as u64));
        let put = self.inner.put(key, body, mode).await?;
        self.done.send_modify(|done| *done += 1);
        if fails.is_some() { Err(Fault::transient(code::STORE_UNAVAILABLE, "told to fail after the fact")) } else { Ok(put) }
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        self.watch.lock().unwrap().got += range.end - range.start;
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.inner.delete(key).await
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

pub(super) struct Rig {
    pub(super) dir: tempfile::TempDir,
    pub(super) watched: Arc<Watched>,
    pub(super) store: Arc<dyn Store>,
    pub(super) extent_size: u32,
    pub(super) may_write: Option<u64>,
    pub(super) read_back: bool,
    pub(super) tuning: Tuning,
}

pub(super) fn lease(operation: OperationId, n: u32) -> Arc<Lease> {
    let attempt = Attempt { operation, seq: 0, n, way: Way::Do };
    Arc::new(Lease::new(attempt, Instant::now() + Duration::from_secs(3600)))
}

impl Rig {
    pub(super) async fn new(extent_kib: usize) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let inner = FileStore::open(dir.path()).await.unwrap();
        let watched = Arc::new(Watched { inner, watch: Mutex::default(), done: watch::Sender::default() });
        let (extent_size, tuning) = ((extent_kib * KIB) as u32, Tuning::default());
        Rig { dir, store: watched.clone(), watched, extent_size, may_write: None, read_back: false, tuning }
    }

    /// From the put with this number on, counted from 0, every put fails until `heal`; all before it succeed.
    pub(super) fn dies_at(&self, at: usize) {
        self.dies(at, false);
    }

    /// The same, but the first put that fails has its effect all the same.
    pub(super) fn dies_late_at(&self, at: usize) {
        self.dies(at, true);
    }

    fn dies(&self, at: usize, late: bool) {
        self.watched.done.send_replace(0);
        self.watched.watch.lock().unwrap().dying = Some(Dying { at, seen: 0, late });
    }

    /// Puts succeed again.
    pub(super) fn heal(&self) {
        self.watched.watch.lock().unwrap().dying = None;
    }

    pub(super) fn work(&self, operation: OperationId, attempt: u32) -> Work {
        Work { store: self.store.clone(), lease: lease(operation, attempt), operation, attempt }
    }

    pub(super) async fn copy_reader(&self, reader: Box<dyn BlockRead>, work: &Work, base: Option<Base>) -> Result<Copied, Fault> {
        self.copy_from(reader, None, work, base).await
    }

    /// As `object.transfer` copies an object of another store.
    pub(super) async fn transfer(&self, source: &Source, work: &Work, base: Option<Base>) -> Result<Copied, Fault> {
        let reader = ObjectReader::open(source, "main").await?;
        let frames = (reader.extent_size() == self.extent_size).then(|| reader.clone());
        self.copy_from(Box::new(reader), frames, work, base).await
    }

    async fn copy_from(
        &self,
        reader: Box<dyn BlockRead>,
        frames: Option<ObjectReader>,
        work: &Work,
        base: Option<Base>,
    ) -> Result<Copied, Fault> {
        let about = About {
            kind: "backup-snapshot".into(),
            tenant: "t1".into(),
            zone: "z1".into(),
            name: Some("nightly".into()),
            source: "fast/vol".into(),
            created: Timestamp(1),
            copy_of: None,
        };
        let Rig { extent_size, may_write, read_back, tuning, .. } = *self;
        copy(work, Copying { reader, frames, extent_size, base, about, may_write, read_back, tuning }).await
    }

    pub(super) async fn copy(
        &self,
        disk: &Disk,
        operation: OperationId,
        attempt: u32,
        base: Option<Base>,
    ) -> Result<Copied, Fault> {
        self.copy_reader(disk.reader(), &self.work(operation, attempt), base).await
    }

    /// A committed copy under a new id.
    pub(super) async fn backup(&self, disk: &Disk, base: Option<Base>) -> (OperationId, Copied) {
        let operation = OperationId::new();
        let copied = self.copy(disk, operation, 1, base).await.unwrap();
        let committed = self.commit(operation, &copied.root).await.unwrap();
        assert_eq!(committed.root, copied.root);
        (operation, copied)
    }

    pub(super) async fn commit(&self, operation: OperationId, root: &Root) -> Result<Committed, Fault> {
        commit::commit(&self.work(operation, 1), root).await
    }

    /// An object of this store, to be read.
    pub(super) fn source(&self, object: OperationId, root: &Root) -> Source {
        Source { store: self.store.clone(), object, root: root.clone() }
    }

    pub(super) async fn restore(&self, object: OperationId, root: &Root) -> Result<Vec<u8>, Fault> {
        let finished = Arc::new(Mutex::new(None));
        let source = self.source(object, root);
        let open = async |size: u64| {
            let bytes = Mutex::new(vec![0; size as usize]);
            Ok(Box::new(Draft { bytes, finished: finished.clone() }) as Box<dyn BlockWrite>)
        };
        restore(&lease(object, 1), &source, open).await?;
        Ok(finished.lock().unwrap().take().unwrap())
    }

    pub(super) async fn verify(&self, object: OperationId, root: &Root) -> Result<Verified, Fault> {
        verify(&lease(object, 1), &self.source(object, root)).await
    }

    pub(super) async fn keys(&self, prefix: &str) -> Vec<Entry> {
        let mut keys: Vec<Entry> = self.store.list(prefix).try_collect().await.unwrap();
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        keys
    }

    /// A worker is killed while it puts this.
    pub(super) fn dies_writing(&self, key: &str) {
        self.watched.inner.die_writing(key, &[1; 4096]);
    }

    /// The keys of what such workers left.
    pub(super) async fn unfinished(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.store.unfinished("").await.unwrap().into_iter().map(|it| it.key).collect();
        keys.sort();
        keys
    }

    pub(super) fn path(&self, key: &str) -> std::path::PathBuf {
        self.dir.path().join(key)
    }

    /// Bytes of packs with extents that were put so far.
    pub(super) fn put_bytes(&self) -> u64 {
        self.watched.watch.lock().unwrap().puts.iter().map(|(_, bytes)| bytes).sum()
    }
}

pub(super) fn base(object: OperationId, copied: &Copied) -> Option<Base> {
    Some(Base { object, root: copied.root.clone(), sparse: copied.sparse.clone() })
}
