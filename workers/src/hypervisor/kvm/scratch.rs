//! A private folder for one export's socket: nobody else may look into it, and it goes with its owner.

use longshore_schema::fault::{Fault, code};
use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A unix socket's path has at most 107 bytes; this leaves room for the file's name.
const LONGEST: usize = 90;

/// Removed, with all that is in it, when dropped. A worker that is killed leaves an almost empty folder.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below the system's folder for temporary files, or below `/tmp` if that has a long name.
    pub(super) fn new() -> Result<Scratch, Fault> {
        let name = format!("longshore-{}", uuid::Uuid::now_v7().simple());
        let usual = std::env::temp_dir().join(&name);
        let fits = usual.to_str().is_some_and(|it| it.len() <= LONGEST);
        let path = if fits { usual } else { Path::new("/tmp").join(name) };
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| Scratch(path))
            .map_err(|error| Fault::transient(code::VOLUME_READ_FAILED, format!("make a scratch folder: {error}")))
    }

    /// A file in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is empty but for a socket and at most one small file; what can't be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
