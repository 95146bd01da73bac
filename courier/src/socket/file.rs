//! The socket's file: never open to others, not even for a moment, and gone when its server is.

use anyhow::Context;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

/// Bytes of a path that fit into a socket's address, with its final zero (unix(7)).
const PATH_LIMIT: usize = 108;

/// A listening socket whose file is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// (device, inode): another server's file at the same path is left alone.
    identity: (u64, u64),
    /// Who made it.
    pub(super) uid: u32,
}

impl SocketFile {
    /// Listens at a path. A file that a dead server left is replaced; a live server is an error.
    pub(super) async fn bind(path: &Path) -> anyhow::Result<SocketFile> {
        let doing = || format!("listen on socket {}", path.display());
        anyhow::ensure!(
            path.as_os_str().len() < PATH_LIMIT,
            "{}: its path is longer than the {} bytes that a socket may have",
            doing(),
            PATH_LIMIT - 1
        );
        ensure_dead(path).await.with_context(doing)?;
        SocketFile::replace(path).with_context(doing)
    }

    /// Made in a folder that only we may enter, and moved once its mode is set.
    fn replace(path: &Path) -> anyhow::Result<SocketFile> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let private = folder.join(format!(".{:08x}", rand::random::<u32>()));
        fs::DirBuilder::new().mode(0o700).create(&private).context("create a folder for it")?;
        let made = private.join("s");
        let bound = (|| {
            let listener = UnixListener::bind(&made).context("bind")?;
            fs::set_permissions(&made, fs::Permissions::from_mode(0o600)).context("set its mode")?;
            let metadata = fs::metadata(&made)?;
            fs::rename(&made, path).context("move it to its place")?;
            let identity = (metadata.dev(), metadata.ino());
            Ok(SocketFile { listener, path: path.into(), identity, uid: metadata.uid() })
        })();
        // After a success the folder is empty; after a failure the socket may be in it.
        let _never_made = bound.is_err().then(|| fs::remove_file(&made));
        fs::remove_dir(&private).context("remove the folder for it")?;
        bound
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "can't remove the socket");
        }
    }
}

/// Fails if somebody listens there, or if what is there is no socket.
async fn ensure_dead(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) => anyhow::ensure!(found.file_type().is_socket(), "there is a file that is no socket"),
    }
    match UnixStream::connect(path).await {
        Ok(_) => anyhow::bail!("another engine listens there"),
        Err(error) if [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound].contains(&error.kind()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
