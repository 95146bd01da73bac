//! Writing and removing files so that a crash at any instant leaves the old state or the new one, whole.

use super::{
    beneath::{self, Root, errno_fault, io_fault, missing_on_the_way},
    temporary::Temporary,
};
use crate::store::{Put, PutMode};
use longshore_schema::fault::Fault;
use rustix::{fs::AtFlags, io::Errno};
use std::{io::Write, os::fd::OwnedFd};
use tokio_util::sync::CancellationToken;

const CHUNK: usize = 4 << 20;

pub(super) fn put(root: &Root, key: &str, body: &[u8], mode: PutMode, abandoned: &CancellationToken) -> Result<Put, Fault> {
    let doing = format!("write {key}");
    if mode == PutMode::Create && exists(root, key).map_err(|errno| errno_fault(&doing, errno))? {
        return Ok(Put::Existed);
    }
    let mut temporary = Temporary::new(root, key).map_err(|errno| errno_fault(&doing, errno))?;
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

pub(super) fn sync(chain: &[OwnedFd]) -> Result<(), Errno> {
    // All of them, not only the new ones: a neighbour may have made one of them and not synced yet.
    chain.iter().rev().try_for_each(rustix::fs::fsync)
}
