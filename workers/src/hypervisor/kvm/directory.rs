//! The pool's directory, by blocking calls. Files are reached only through its descriptor, by plain names,
//! and symbolic links are never followed.

use longshore_schema::{
    fault::{Fault, code},
    steps::volume::Identity,
};
use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxFlags},
    io::Errno,
};
use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// The directory, open.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens it. `pool.unreachable` if that isn't possible, now.
    pub(super) fn open(path: &Path) -> Result<Directory, Fault> {
        if path.to_str().is_none() {
            return Err(Fault::permanent(code::POOL_UNREACHABLE, "the path of the pool's directory is not UTF-8"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreachable("open the pool's directory", error))?;
        Ok(Directory { handle, path: path.to_owned() })
    }

    /// Whether files may be made in it.
    pub(super) fn check_writable(&self) -> Result<(), Fault> {
        use rustix::fs::{Access, accessat};
        accessat(&self.handle, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|error| unreachable("write in the pool's directory", error))
    }

    /// A file's path, for QEMU's tools.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a regular file for reading; `None` if there is none of that name. `image.invalid` if it is something else.
    pub(super) fn read(&self, name: &str) -> Result<Option<File>, Fault> {
        // Non-blocking, for what could be a pipe; regular files don't mind.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let strange = || Fault::permanent(code::IMAGE_INVALID, format!("{name} is not a regular file"));
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return Err(strange()),
            Err(error) => return Err(failed(code::VOLUME_READ_FAILED, format!("open {name}"), error)),
        };
        let about =
            file.metadata().map_err(|error| Fault::transient(code::VOLUME_READ_FAILED, format!("look at {name}: {error}")))?;
        if about.is_file() { Ok(Some(file)) } else { Err(strange()) }
    }

    /// Makes a new file, readable by its owner only, and opens it for writing.
    pub(super) fn create(&self, name: &str) -> Result<File, Fault> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR);
        made.map(File::from).map_err(|error| failed(code::VOLUME_WRITE_FAILED, format!("make {name}"), error))
    }

    /// Gives a file a second name; false if that name is taken.
    pub(super) fn link(&self, from: &str, to: &str) -> Result<bool, Fault> {
        match rustix::fs::linkat(&self.handle, from, &self.handle, to, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(Errno::NOENT) => Err(Fault::permanent(code::VOLUME_MISSING, format!("the draft {from} isn't there"))),
            Err(error) => Err(failed(code::VOLUME_WRITE_FAILED, format!("give {from} the name {to}"), error)),
        }
    }

    /// Removes a name; none there is success.
    pub(super) fn unlink(&self, name: &str) -> Result<(), Fault> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(code::VOLUME_WRITE_FAILED, format!("remove {name}"), error)),
        }
    }

    /// Makes names that were made or removed durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        rustix::fs::fsync(&self.handle)
            .map_err(|error| failed(code::VOLUME_WRITE_FAILED, "make the pool's directory durable", error))
    }

    /// Which file has that name now; `None` if there is none.
    pub(super) fn identity(&self, name: &str) -> Result<Option<Identity>, Fault> {
        let asked = StatxFlags::INO | StatxFlags::BTIME;
        match rustix::fs::statx(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW, asked) {
            Ok(about) => {
                let known = StatxFlags::from_bits_retain(about.stx_mask).contains(StatxFlags::BTIME);
                let born = i128::from(about.stx_btime.tv_sec) * 1_000_000_000 + i128::from(about.stx_btime.tv_nsec);
                let born_ns = i64::try_from(born).ok().filter(|_| known).map(|it| it - it % 1000);
                Ok(Some(Identity { id: about.stx_ino.to_string(), born_ns }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(code::VOLUME_READ_FAILED, format!("look at {name}"), error)),
        }
    }

    /// The names of everything in it.
    pub(super) fn names(&self) -> Result<Vec<String>, Fault> {
        let read = |error| unreachable("list the pool's directory", error);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle).map_err(read)? {
            let entry = entry.map_err(read)?;
            // What isn't UTF-8 can be nobody's volume.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// Whether two identities may be of the same file: birth times count where both are known.
pub(super) fn same(one: &Identity, other: &Identity) -> bool {
    // Those that were recorded earlier have nanoseconds.
    let [born, also_born] = [one, other].map(|it| it.born_ns.map(|ns| ns / 1000));
    one.id == other.id && (born.is_none() || also_born.is_none() || born == also_born)
}

/// A failed call as a fault: a full file system is the pool's, the rest may pass.
pub(super) fn failed(code: &str, doing: impl std::fmt::Display, error: Errno) -> Fault {
    match error {
        Errno::NOSPC | Errno::DQUOT => Fault::transient(code::POOL_FULL, format!("{doing}: {error}")),
        error => Fault::transient(code, format!("{doing}: {error}")),
    }
}

fn unreachable(doing: &str, error: Errno) -> Fault {
    Fault::transient(code::POOL_UNREACHABLE, format!("{doing}: {error}"))
}
