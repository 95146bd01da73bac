//! Files without their final names yet. Each says which key is meant, and a key says which operation and attempt
//! writes it: so it is known whose a file is that a dead process left, and removed once that attempt is over.

use super::{
    beneath::{self, Root, errno_fault, missing_on_the_way},
    write::sync,
};
use crate::store::{Entry, MOST_UNFINISHED, Put, PutMode, key};
use longshore_schema::fault::{Fault, code};
use rustix::{
    fs::{AtFlags, Dir, OFlags, Stat},
    io::Errno,
};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};
use uuid::Uuid;

/// Where they are, below the store's directory.
const FOLDER: &str = ".tmp";
/// Stands for `/` in their names; no key has it.
const SLASH: &str = "~";
/// More of a key doesn't go into a name. Those that say which operation they are of are shorter.
const LONGEST: usize = 200;
/// How often a put starts again when a delete next to it removed the directory that had become empty.
const PLACINGS: usize = 32;

/// What is there of keys that start with `prefix`.
pub(super) fn unfinished(root: &Root, prefix: &str) -> Result<Vec<Entry>, Fault> {
    let mut found = vec![];
    let looked = each(root, |_, name, stat| {
        if let Some(key) = meant(name).filter(|key| key.starts_with(prefix))
            && found.len() < MOST_UNFINISHED
        {
            found.push(beneath::entry(key, stat));
        }
        Ok(())
    });
    looked.map(|()| found).map_err(|errno| errno_fault("look for temporary files", errno))
}

/// Removes what is there of a key.
pub(super) fn discard(root: &Root, key: &str) -> Result<(), Fault> {
    let removed = each(root, |directory, name, _| match meant(name).as_deref() == Some(key) {
        true => unlink(directory, name),
        false => Ok(()),
    });
    let durable = removed.and_then(|()| match root.directory(FOLDER) {
        Err(errno) if missing_on_the_way(errno) => Ok(()),
        directory => rustix::fs::fsync(directory?),
    });
    durable.map_err(|errno| errno_fault(&format!("remove temporary files of {key}"), errno))
}

fn each(root: &Root, mut look: impl FnMut(&OwnedFd, &str, &Stat) -> Result<(), Errno>) -> Result<(), Errno> {
    let directory = match root.directory(FOLDER) {
        Err(errno) if missing_on_the_way(errno) => return Ok(()),
        directory => directory?,
    };
    // The names come first: to remove while reading may hide some from what is still to be read.
    for entry in Dir::read_from(&directory)?.collect::<Result<Vec<_>, _>>()? {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if let Some(stat) = beneath::regular(&directory, name)? {
            look(&directory, name, &stat)?;
        }
    }
    Ok(())
}

fn unlink(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The key that a file of that name was to get.
fn meant(name: &str) -> Option<String> {
    let (meant, unique) = name.rsplit_once(SLASH)?;
    let key = meant.replace(SLASH, "/");
    (Uuid::try_parse(unique).is_ok() && key::is_key(&key)).then_some(key)
}

/// A file without its final name; unlinked on drop.
pub(super) struct Temporary {
    directory: OwnedFd,
    name: String,
    pub(super) file: File,
}

impl Temporary {
    pub(super) fn new(root: &Root, key: &str) -> Result<Temporary, Errno> {
        let meant = key.replace('/', SLASH);
        let name = format!("{}{SLASH}{}", &meant[..meant.len().min(LONGEST)], Uuid::now_v7());
        let mut chain = root.make_parents(&format!("{FOLDER}/{name}"))?;
        let directory = chain.pop().ok_or(Errno::NOENT)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = File::from(beneath::open(&directory, &name, flags)?);
        Ok(Temporary { directory, name, file })
    }

    pub(super) fn place(self, root: &Root, key: &str, mode: PutMode) -> Result<Put, Fault> {
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
                Err(Errno::NOENT) if self.was_discarded().map_err(failed)? => break,
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

    /// Whether somebody who holds its writer for dead removed it.
    fn was_discarded(&self) -> Result<bool, Errno> {
        Ok(rustix::fs::fstat(&self.file)?.st_nlink == 0)
    }

    /// Whether that name is this file.
    fn is(&self, at: impl AsFd, name: &str) -> Result<bool, Errno> {
        let (ours, found) = (rustix::fs::fstat(&self.file)?, beneath::regular(at, name)?);
        Ok(found.is_some_and(|it| (it.st_dev, it.st_ino) == (ours.st_dev, ours.st_ino)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone; and what stays is found by its name.
        let _ = rustix::fs::unlinkat(&self.directory, self.name.as_str(), AtFlags::empty());
    }
}
