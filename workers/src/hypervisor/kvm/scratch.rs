//! A private folder for one export's socket: nobody else may look into it, and it goes with its owner. All of a
//! process lie in one folder with a lock, by which a later process knows that it is dead and removes it.

use longshore_schema::fault::{Fault, code};
use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// A unix socket's path has at most 107 bytes; this leaves room for a number and the file's name.
const LONGEST: usize = 80;
const PREFIX: &str = "longshore-";
const LOCK: &str = "lock";

/// Removed, with all that is in it, when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _home: Arc<Home>,
}

/// The process's folder, while anything is in it.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    next: AtomicU64,
    _lock: File,
}

static HOME: Mutex<Weak<Home>> = Mutex::new(Weak::new());

impl Scratch {
    /// Makes one below the system's folder for temporary files, or below `/tmp` if that has a long name.
    pub(super) fn new() -> Result<Scratch, Fault> {
        Scratch::make().map_err(|error| Fault::transient(code::VOLUME_READ_FAILED, format!("make a scratch folder: {error}")))
    }

    fn make() -> io::Result<Scratch> {
        let mut known = HOME.lock().unwrap_or_else(PoisonError::into_inner);
        let home = match known.upgrade() {
            Some(home) => home,
            None => {
                let home = Arc::new(Home::make(&parent())?);
                *known = Arc::downgrade(&home);
                home
            }
        };
        drop(known);
        let path = home.path.join(home.next.fetch_add(1, Relaxed).to_string());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch { path, _home: home })
    }

    /// A file in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is empty but for a socket and at most one small file; what can't be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Home {
    fn make(parent: &Path) -> io::Result<Home> {
        loop {
            let path = parent.join(format!("{PREFIX}{}", uuid::Uuid::now_v7().simple()));
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock = File::create_new(path.join(LOCK))?;
            // Whoever cleans up may have been faster between these calls: then it is another folder's turn.
            let ours = lock.try_lock().is_ok() && path.join(LOCK).metadata().is_ok_and(|it| same(&it, &lock));
            if ours {
                return Ok(Home { path, next: AtomicU64::new(0), _lock: lock });
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes what processes of this user's left that were killed. A live one holds its folder's lock.
pub fn clean_up() {
    if let Err(error) = clean_up_in(&parent()) {
        tracing::warn!(%error, "could not look for scratch folders of dead workers");
    }
}

fn clean_up_in(parent: &Path) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let named = entry.file_name().to_str().and_then(|it| it.strip_prefix(PREFIX)).is_some_and(is_simple_uuid);
        if !named || !entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == me) {
            continue;
        }
        // Without a lock it is being made just now, or is none of ours.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                tracing::info!(path = %entry.path().display(), "removing the scratch folder of a dead process");
                let _ = std::fs::remove_dir_all(entry.path());
            }
            Err(TryLockError::WouldBlock) => (),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn parent() -> PathBuf {
    let usual = std::env::temp_dir();
    let fits = usual.to_str().is_some_and(|it| it.len() + 1 + PREFIX.len() + 32 <= LONGEST);
    if fits { usual } else { PathBuf::from("/tmp") }
}

fn is_simple_uuid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

fn same(named: &std::fs::Metadata, open: &File) -> bool {
    open.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (named.dev(), named.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_live_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let live = Home::make(parent.path()).unwrap();
        let dead = Home::make(parent.path()).unwrap();
        std::fs::create_dir(dead.path.join("0")).unwrap();
        let left = dead.path.clone();
        // As a kill leaves it: the lock is gone with the process, the folder isn't.
        let Home { path, .. } = &dead;
        assert!(path.exists());
        dead._lock.unlock().unwrap();
        let others = [parent.path().join("longshore-demo-x"), parent.path().join(format!("longshore-{}", "0".repeat(32)))];
        others.iter().for_each(|it| std::fs::create_dir(it).unwrap());
        clean_up_in(parent.path()).unwrap();
        assert!(!left.exists() && live.path.exists() && others.iter().all(|it| it.exists()));
        let path = live.path.clone();
        drop(live);
        assert!(!path.exists());
    }
}
