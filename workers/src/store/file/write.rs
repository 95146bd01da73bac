//! Writing and removing files so that a crash at any instant leaves the old state or the new one, whole.

use super::beneath::{self, Root, errno_fault, io_fault, missing_on_the_way};
use crate::store::{Put, PutMode};
use longshore_schema::fault::{Fault, code};
use rustix::{
    fs::{AtFlags, Dir, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Where temporary files are, below the store's directory.
const TEMPORARY: &str = ".tmp";
/// Nobody takes a day to write a pack: what is older was left by a process that died.
const LEFT_MS: i64 = 24 * 3600 * 1000;
/// How often a put starts again when a delete next to it removed the directory that had become empty.
const PLACINGS: usize = 32;
const CHUNK: usize = 4 << 20;

pub(super) fn put(root: &Root, key: &str, body: &[u8], mode: PutMode, abandoned: &CancellationToken) -> Result<Put, Fault> {
    let doing = format!("write {key}");
    if mode == PutMode::Create && exists(root, key).map_err(|errno| errno_fault(&doing, errno))? {
        return Ok(Put::Existed);
    }
    let mut temporary = Temporary::new(root).map_err(|errno| errno_fault(&doing, errno))?;
    for chunk in body.chunks(CHUNK) {
        go_on(abandoned, key)?;
        temporary.file.write_all(chunk).map_err(|error| io_fault(&doing, &error))?;
    }
    temporary.file.sync_all().map_err(|error| io_fault(&doing, &error))?;
    go_on(abandoned, key)?;
    temporary.place(root, key, mode)
}

pub(super) fn delete(root: &Root, key: &str) -> Result<(), Fault> {
    let removed = root.parent(key).and_then(|(directory, name)| {
        if beneath::regular(&directory, name)?.is_some() {
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => (),
                Err(errno) => return Err(errno),
            }
        }
        // Also when it was absent: the delete that removed it may not have come this far.
        rustix::fs::fsync(&directory)
    });
    match removed {
        Ok(()) => prune(root, key),
        Err(errno) if missing_on_the_way(errno) => (),
        Err(errno) => return Err(errno_fault(&format!("delete {key}"), errno)),
    }
    Ok(())
}

/// Removes the directories that have become empty. That they stay is no harm, so errors are not looked at.
fn prune(root: &Root, key: &str) {
    let mut path = key;
    while let Some((directory, _)) = path.rsplit_once('/') {
        let removed = root.parent(directory).and_then(|(above, name)| rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR));
        if removed.is_err() {
            return;
        }
        path = directory;
    }
}

/// Removes temporary files that are older than a day by the store's own clock.
pub(super) fn clean_up(root: &Root) -> Result<(), Fault> {
    let clean = || {
        let now = beneath::modified_ms(&rustix::fs::fstat(&Temporary::new(root)?.file)?);
        let directory = root.directory(TEMPORARY)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if let Some(stat) = beneath::regular(&directory, name)?
                && now - beneath::modified_ms(&stat) > LEFT_MS
            {
                match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => (),
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    };
    clean().map_err(|errno| errno_fault("clean up temporary files", errno))
}

fn go_on(abandoned: &CancellationToken, key: &str) -> Result<(), Fault> {
    match abandoned.is_cancelled() {
        true => Err(Fault::cancelled(format!("write {key}: nobody waits for it any more"))),
        false => Ok(()),
    }
}

/// Spares writing a body that `place` would refuse.
fn exists(root: &Root, key: &str) -> Result<bool, Errno> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let found = root.parents(key).and_then(|chain| {
        let found = beneath::regular(&chain[chain.len() - 1], name)?.is_some();
        // Who finds a file may rely on it: its writer may not have synced the directories yet.
        if found {
            sync(&chain)?;
        }
        Ok(found)
    });
    match found {
        Err(errno) if missing_on_the_way(errno) => Ok(false),
        found => found,
    }
}

fn sync(chain: &[OwnedFd]) -> Result<(), Errno> {
    // All of them, not only the new ones: a neighbour may have made one of them and not synced yet.
    chain.iter().rev().try_for_each(rustix::fs::fsync)
}

/// A file without its final name; unlinked on drop.
struct Temporary {
    directory: OwnedFd,
    name: String,
    file: File,
}

impl Temporary {
    fn new(root: &Root) -> Result<Temporary, Errno> {
        let name = Uuid::now_v7().to_string();
        let mut chain = root.make_parents(&format!("{TEMPORARY}/{name}"))?;
        let directory = chain.pop().ok_or(Errno::NOENT)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = File::from(beneath::open(&directory, &name, flags)?);
        Ok(Temporary { directory, name, file })
    }

    fn place(self, root: &Root, key: &str, mode: PutMode) -> Result<Put, Fault> {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        let failed = |errno| errno_fault(&format!("write {key}"), errno);
        for _ in 0..PLACINGS {
            let chain = match root.make_parents(key) {
                Err(Errno::NOENT) => continue,
                made => made.map_err(failed)?,
            };
            let directory = &chain[chain.len() - 1];
            let placed = match mode {
                PutMode::Create => rustix::fs::linkat(&self.directory, self.name.as_str(), directory, name, AtFlags::empty()),
                PutMode::Replace => rustix::fs::renameat(&self.directory, self.name.as_str(), directory, name),
            };
            let put = match placed {
                Ok(()) => Put::Written,
                // Over NFS the answer may be that of a second sending of a request that had been done.
                Err(Errno::EXIST | Errno::NOENT) if self.is(directory, name).map_err(failed)? => Put::Written,
                Err(Errno::EXIST) if beneath::regular(directory, name).map_err(failed)?.is_some() => Put::Existed,
                Err(Errno::EXIST) => return Err(failed(Errno::ISDIR)),
                Err(Errno::NOENT) => continue,
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) if mode == PutMode::Create => {
                    return Err(Fault::permanent(
                        code::STORE_MISBEHAVED,
                        format!("write {key}: the file system makes no hard links; without them nothing can be created safely"),
                    ));
                }
                Err(errno) => return Err(failed(errno)),
            };
            sync(&chain).map_err(failed)?;
            return Ok(put);
        }
        let why = "its directory, or the temporary file, was removed again and again";
        Err(Fault::transient(code::STORE_UNAVAILABLE, format!("write {key}: {why}")))
    }

    /// Whether that name is this file.
    fn is(&self, at: impl AsFd, name: &str) -> Result<bool, Errno> {
        let (ours, found) = (rustix::fs::fstat(&self.file)?, beneath::regular(at, name)?);
        Ok(found.is_some_and(|it| (it.st_dev, it.st_ino) == (ours.st_dev, ours.st_ino)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone; and what stays is cleaned up by the next process that opens the store.
        let _ = rustix::fs::unlinkat(&self.directory, self.name.as_str(), AtFlags::empty());
    }
}
