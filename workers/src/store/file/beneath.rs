//! Paths below the store's directory, one component at a time and never through a symbolic link, and what
//! the system's errors mean for a store.

use crate::store::Entry;
use longshore_schema::fault::{Class, Fault, code};
use rustix::{
    fs::{Access, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The store's directory, held open.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Root, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Root { fd, path: path.to_owned() }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(self::missing(path)),
            Err(errno) => Err(errno_fault(&format!("open directory {}", path.display()), errno)),
        }
    }

    /// The directory that `key` is in, and its name there.
    pub(super) fn parent<'a>(&self, key: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
        let (directories, name) = key.rsplit_once('/').unwrap_or(("", key));
        Ok((self.directory(directories)?, name))
    }

    /// The directory at `path`, which may be empty.
    pub(super) fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut found = open(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        for segment in path.split('/').filter(|it| !it.is_empty()) {
            found = open(&found, segment, OFlags::RDONLY | OFlags::DIRECTORY)?;
        }
        Ok(found)
    }

    /// The directories from the root down to the one that `key` is in.
    pub(super) fn parents(&self, key: &str) -> Result<Vec<OwnedFd>, Errno> {
        self.chain(key, |above, segment| open(above, segment, OFlags::RDONLY | OFlags::DIRECTORY))
    }

    /// The same, made if they are missing.
    pub(super) fn make_parents(&self, key: &str) -> Result<Vec<OwnedFd>, Errno> {
        self.chain(key, |above, segment| match open(above, segment, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(above, segment, Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => (),
                    Err(errno) => return Err(errno),
                }
                open(above, segment, OFlags::RDONLY | OFlags::DIRECTORY)
            }
            found => found,
        })
    }

    fn chain(&self, key: &str, step: impl Fn(&OwnedFd, &str) -> Result<OwnedFd, Errno>) -> Result<Vec<OwnedFd>, Errno> {
        let mut chain = vec![self.directory("")?];
        let (directories, _) = key.rsplit_once('/').unwrap_or(("", key));
        for segment in directories.split('/').filter(|it| !it.is_empty()) {
            chain.push(step(&chain[chain.len() - 1], segment)?);
        }
        Ok(chain)
    }

    /// Whether the path still leads to the directory that was opened.
    pub(super) fn check_same(&self) -> Result<(), Fault> {
        let doing = || format!("look at directory {}", self.path.display());
        let held = rustix::fs::fstat(&self.fd).map_err(|errno| errno_fault(&doing(), errno))?;
        let now = match rustix::fs::stat(&self.path) {
            Ok(now) => now,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing(&self.path)),
            Err(errno) => return Err(errno_fault(&doing(), errno)),
        };
        if (held.st_dev, held.st_ino) != (now.st_dev, now.st_ino) {
            let why = "another directory is there now (was it unmounted, or mounted again?)";
            return Err(Fault::transient(code::STORE_UNAVAILABLE, format!("{}: {why}", doing())));
        }
        Ok(())
    }

    /// The same, for a request: the worker opens it anew when it looks again, and the step is tried again.
    pub(super) fn check_still(&self) -> Result<(), Fault> {
        self.check_same().map_err(|fault| Fault { class: Class::Transient, ..fault })
    }

    /// The same, and it can be read and written.
    pub(super) fn ping(&self) -> Result<(), Fault> {
        self.check_same()?;
        let doing = || format!("look at directory {}", self.path.display());
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&self.fd, ".", access, AtFlags::empty()).map_err(|errno| errno_fault(&doing(), errno))
    }
}

/// Opens one name in a directory; a symbolic link is an error.
pub(super) fn open(at: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from_raw_mode(0o640))
}

/// About the regular file of that name; `None` if there is none, or something else.
pub(super) fn regular(at: impl AsFd, name: &str) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(stat)),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn entry(key: String, stat: &Stat) -> Entry {
    Entry { key, bytes: u64::try_from(stat.st_size).unwrap_or(0), modified_ms: modified_ms(stat) }
}

pub(super) fn modified_ms(stat: &Stat) -> i64 {
    stat.st_mtime.saturating_mul(1000).saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0) / 1_000_000)
}

/// Whether an error from walking down to a key only says that there is no such key.
pub(super) fn missing_on_the_way(errno: Errno) -> bool {
    // NOTDIR: a file, or a link, where a directory would be. LOOP: the last component is a link. NXIO: a socket.
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO)
}

/// What a system error means for a store.
pub(super) fn errno_fault(doing: &str, errno: Errno) -> Fault {
    let message = format!("{doing}: {}", std::io::Error::from(errno));
    match errno {
        Errno::NOSPC | Errno::DQUOT => Fault::transient(code::STORE_FULL, message),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Fault::permanent(code::STORE_DENIED, message),
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY => {
            Fault::permanent(code::STORE_MISBEHAVED, format!("{message} (something that isn't Longshore's is in the way)"))
        }
        // STALE, IO, TIMEDOUT, and whatever else a file server may say for a while.
        _ => Fault::transient(code::STORE_UNAVAILABLE, message),
    }
}

pub(super) fn io_fault(doing: &str, error: &std::io::Error) -> Fault {
    match Errno::from_io_error(error) {
        Some(errno) => errno_fault(doing, errno),
        None => Fault::transient(code::STORE_UNAVAILABLE, format!("{doing}: {error}")),
    }
}

fn missing(path: &Path) -> Fault {
    Fault::permanent(code::STORE_MISSING, format!("directory {} does not exist", path.display()))
}
