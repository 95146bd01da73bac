//! A store that is a directory, local or a mounted NFS. A body is written under a temporary name, synced, and
//! gets its name by `link` (never replaces) or `rename`; then every directory above it is synced.
//!
//! **Invariant**: no path is resolved through a symbolic link below the directory, and the directory stays
//! the one that was opened: after an unmount nothing is written to what is under the mount point, and after the folder was
//! exchanged for another the old one is neither written, read nor emptied.

mod beneath;
mod list;
mod temporary;
mod write;

use super::{Entry, Put, PutMode, Store, key, open::Backend, probe::Capabilities};
use async_trait::async_trait;
use beneath::{Root, errno_fault, missing_on_the_way};
use bytes::Bytes;
use futures::stream::BoxStream;
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use rustix::{fs::OFlags, io::Errno};
use std::{fs::File, ops::Range, os::unix::fs::FileExt, path::Path, sync::Arc};
use tokio_util::sync::CancellationToken;

/// A store that is a directory.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Arc<Root>,
}

impl FileStore {
    /// Opens an existing directory (`store.missing` if there is none), and changes nothing in it.
    pub async fn open(directory: &Path) -> Result<FileStore, Fault> {
        let directory = directory.to_owned();
        let root = blocking(move || Root::open(&directory)).await?;
        Ok(FileStore { root: Arc::new(root) })
    }
}

/// The directory of a place whose url is `file:///dir`.
pub(super) async fn backend(place: &site::Store) -> Result<Box<dyn Backend>, Fault> {
    let directory = place.url.strip_prefix("file://").unwrap_or_default();
    Ok(Box::new(FileStore::open(Path::new(directory)).await?))
}

#[async_trait]
impl Backend for FileStore {
    fn store(&self, _capabilities: Capabilities) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    async fn try_out(&self, _scratch: &str, tried: Capabilities) -> Result<Capabilities, Fault> {
        Ok(tried)
    }
}

#[cfg(test)]
impl FileStore {
    /// Leaves what a put leaves whose process is killed before it ends.
    pub(crate) fn die_writing(&self, key: &str, body: &[u8]) {
        let mut written = temporary::Temporary::new(&self.root, key).expect("a temporary file");
        std::io::Write::write_all(&mut written.file, body).expect("written");
        std::mem::forget(written);
    }
}

#[async_trait]
impl Store for FileStore {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        key::check(key)?;
        let (root, key) = (self.root.clone(), key.to_owned());
        // The thread outlives a dropped future: it must not give the file its name after that.
        let abandoned = CancellationToken::new();
        let _on_drop = abandoned.clone().drop_guard();
        blocking(move || {
            root.check_still()?;
            write::put(&root, &key, &body, mode, &abandoned)
        })
        .await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        key::check(key)?;
        let (root, key) = (self.root.clone(), key.to_owned());
        blocking(move || root.check_still().and_then(|()| get(&root, &key, range))).await
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        key::check(key)?;
        let (root, key) = (self.root.clone(), key.to_owned());
        blocking(move || {
            root.check_still()?;
            let found = root.parent(&key).and_then(|(directory, name)| beneath::regular(&directory, name));
            match found {
                Ok(stat) => Ok(stat.map(|stat| beneath::entry(key, &stat))),
                Err(errno) if missing_on_the_way(errno) => Ok(None),
                Err(errno) => Err(errno_fault(&format!("look for {key}"), errno)),
            }
        })
        .await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        list::list(self.root.clone(), prefix.to_owned())
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        key::check(key)?;
        let (root, key) = (self.root.clone(), key.to_owned());
        blocking(move || root.check_still().and_then(|()| write::delete(&root, &key))).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Entry>, Fault> {
        key::check_prefix(prefix)?;
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        blocking(move || root.check_still().and_then(|()| temporary::unfinished(&root, &prefix))).await
    }

    async fn discard_unfinished(&self, key: &str) -> Result<(), Fault> {
        key::check(key)?;
        let (root, key) = (self.root.clone(), key.to_owned());
        blocking(move || root.check_still().and_then(|()| temporary::discard(&root, &key))).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        let root = self.root.clone();
        blocking(move || root.ping()).await
    }
}

fn get(root: &Root, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
    let doing = || format!("read {key}");
    let missing = |why: &str| Fault::permanent(code::OBJECT_MISSING, format!("read {key}: {why}"));
    let opened = root.parent(key).and_then(|(directory, name)| {
        // NONBLOCK: whatever else has that name, a FIFO for example, must not stop us.
        beneath::open(&directory, name, OFlags::RDONLY | OFlags::NONBLOCK)
    });
    let file = match opened {
        Ok(file) => File::from(file),
        Err(errno) if missing_on_the_way(errno) => return Err(missing("it is not there")),
        Err(errno) => return Err(errno_fault(&doing(), errno)),
    };
    let about = file.metadata().map_err(|error| beneath::io_fault(&doing(), &error))?;
    if !about.is_file() {
        return Err(missing("it is not a file"));
    }
    let bytes = range.end.saturating_sub(range.start);
    if range.end > about.len() || range.start > range.end {
        return Err(missing(&format!("bytes {} to {} of {} were asked for", range.start, range.end, about.len())));
    }
    let length = usize::try_from(bytes).map_err(|_| errno_fault(&doing(), Errno::NOMEM))?;
    let mut body = vec![0; length];
    match file.read_exact_at(&mut body, range.start) {
        Ok(()) => Ok(body.into()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(missing("it became shorter")),
        Err(error) => Err(beneath::io_fault(&doing(), &error)),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Fault::transient(code::INTERNAL, format!("a thread at the file store ended: {error}"))))
}

#[cfg(test)]
mod tests;
