//! One image served by a `qemu-nbd` of ours on a private socket. It is `qemu-nbd` and not `qemu-storage-daemon`
//! because it ends when its last client leaves, after it has closed the image well. It is tied to the worker besides, since
//! one that no client has reached yet would stay.

use super::{
    scratch::Scratch,
    tied::{End, Tied},
};
use crate::nbd::{Client, Errno, NbdError};
use longshore_schema::fault::{Fault, code};
use serde_json::Value;
use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::UnixStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

const DAEMON: &str = "qemu-nbd";
/// How long QEMU may take to open an image. A pool that takes longer is away.
const OPENING: Duration = Duration::from_secs(60);
/// Between two looks whether the daemon listens yet.
const POLL: Duration = Duration::from_millis(3);
/// How much of what the daemon says is kept.
const KEPT: usize = 4 << 10;

/// What an export may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    fn options(self) -> &'static [&'static str] {
        match self {
            Access::Read => &["--read-only"],
            Access::Write => &["--cache=writeback", "--discard=unmap", "--detect-zeroes=off"],
        }
    }
}

/// A running daemon and our connections to it. Dropping it kills the daemon.
#[derive(Debug)]
pub(super) struct Export {
    clients: Vec<Client>,
    daemon: Tied,
    said: JoinHandle<String>,
    volume: String,
    source: String,
    access: Access,
    /// Last, so that the socket's folder goes after its daemon was told to.
    _scratch: Scratch,
}

impl Export {
    /// Starts a daemon for the block node and connects to it, `connections` times. `volume` is for messages.
    pub(super) async fn open(
        volume: &str,
        node: &Value,
        access: Access,
        connections: usize,
        scratch: Scratch,
    ) -> Result<Export, Fault> {
        let socket = scratch.join("nbd");
        let source = format!("json:{node}");
        let shared = OsString::from(format!("--shared={connections}"));
        let mut arguments: Vec<&OsStr> = vec![OsStr::new("--socket"), socket.as_os_str(), &shared];
        arguments.extend(access.options().iter().map(OsStr::new));
        arguments.push(source.as_ref());
        let mut daemon = Tied::start(DAEMON, &arguments)
            .map_err(|error| Fault::transient(code::POOL_UNREACHABLE, format!("start {DAEMON} on this worker: {error}")))?;
        let said = tokio::spawn(keep(daemon.errors()));
        let mut export = Export { clients: vec![], daemon, said, volume: volume.into(), source, access, _scratch: scratch };
        for _ in 0..connections {
            let opened = timeout(OPENING, export.connect(&socket)).await;
            let client = opened.unwrap_or_else(|_| Err(export.transient("QEMU doesn't open it in time")))?;
            export.clients.push(client);
        }
        Ok(export)
    }

    async fn connect(&mut self, socket: &Path) -> Result<Client, Fault> {
        let stream = loop {
            // Not there yet, or going already: its end, or the time, decides.
            if let Ok(stream) = UnixStream::connect(socket).await {
                break stream;
            }
            tokio::select! {
                ended = self.daemon.ended() => return Err(self.refused(ended).await),
                () = sleep(POLL) => (),
            }
        };
        match Client::connect(stream, "").await {
            Ok(client) => Ok(client),
            // It listens before it opens the image: if that fails, its end says why.
            Err(NbdError::Lost(_)) => {
                let ended = self.daemon.ended().await;
                Err(self.refused(ended).await)
            }
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// The connections, at least one.
    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Leaves, and waits until the daemon has closed the image and ended well.
    pub(super) async fn close(mut self) -> Result<(), Fault> {
        for client in std::mem::take(&mut self.clients) {
            client.disconnect().await;
        }
        match self.daemon.ended().await {
            Ok(End::Code(0)) => Ok(()),
            ended => Err(self.refused(ended).await),
        }
    }

    /// An error of a request as a fault.
    pub(super) fn fault(&self, error: &NbdError) -> Fault {
        let message = format!("{}: {error}", self.volume);
        match error {
            NbdError::Server { errno: Errno::NoSpace, .. } if self.access == Access::Write => {
                Fault::transient(code::POOL_FULL, message)
            }
            // What a disk, a network file system or a killed daemon does may pass; what we or QEMU do wrong doesn't.
            NbdError::Server { .. } | NbdError::Lost(_) => Fault::transient(self.code(), message),
            NbdError::Protocol(_) | NbdError::Refused { .. } | NbdError::Unsendable(_) => Fault::permanent(self.code(), message),
        }
    }

    fn code(&self) -> &'static str {
        match self.access {
            Access::Read => code::VOLUME_READ_FAILED,
            Access::Write => code::VOLUME_WRITE_FAILED,
        }
    }

    fn transient(&self, what: impl std::fmt::Display) -> Fault {
        Fault::transient(self.code(), format!("{}: {what}", self.volume))
    }

    /// Why the daemon ended, from what it said.
    async fn refused(&mut self, ended: io::Result<End>) -> Fault {
        let said = (&mut self.said).await.unwrap_or_default();
        let said = said.replace(&self.source, &self.volume);
        let said = said.lines().map(|it| it.strip_prefix("qemu-nbd: ").unwrap_or(it)).collect::<Vec<_>>().join("; ");
        match ended {
            Ok(End::Code(_)) if !said.is_empty() => judged(&self.volume, self.code(), &said),
            Ok(End::Code(number)) => self.transient(format!("{DAEMON} ended with {number} and no word")),
            Ok(End::Killed) => self.transient(format!("{DAEMON} was killed")),
            Ok(End::NotStarted) => Fault::transient(code::POOL_UNREACHABLE, format!("start {DAEMON} on this worker: {said}")),
            Err(error) => self.transient(format!("wait for {DAEMON}: {error}")),
        }
    }
}

/// What QEMU's tools complain about, told by their text: they have no other way to say it.
pub(super) fn judged(volume: &str, failed: &str, said: &str) -> Fault {
    const PASSING: &[&str] = &[
        "Input/output error",
        "Too many open files",
        "Cannot allocate memory",
        "Permission denied",
        "Stale file handle",
        "Resource temporarily unavailable",
        "Read-only file system",
    ];
    let message = format!("{volume}: QEMU says: {said}");
    match said {
        it if it.contains("lock") && it.contains("Failed to get") => {
            Fault::transient(code::VOLUME_IN_USE, format!("{volume} is open in another process"))
        }
        it if it.contains("No space left") || it.contains("Disk quota exceeded") => Fault::transient(code::POOL_FULL, message),
        it if it.contains("No such file") => Fault::transient(code::VOLUME_MISSING, message),
        it if PASSING.iter().any(|passing| it.contains(passing)) => Fault::transient(failed, message),
        _ => Fault::permanent(code::IMAGE_INVALID, message),
    }
}

/// Reads all that is said, so that the daemon never blocks on it, and keeps the beginning.
async fn keep(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut part = [0; 1024];
    if let Some(mut stream) = stream {
        while let Ok(1..) = stream.read(&mut part).await.inspect(|bytes| {
            kept.extend_from_slice(&part[..(*bytes).min(KEPT - kept.len())]);
        }) {}
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use longshore_schema::fault::Class;
    use serde_json::json;
    use std::path::PathBuf;

    /// A raw file of a mebibyte behind a filter that fails what it is told to.
    async fn export(folder: &Path, access: Access, fails: Value) -> (Export, PathBuf) {
        let path = folder.join("volume");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let node = json!({"driver": "blkdebug", "image": {"driver": "file", "filename": path}, "inject-error": [fails]});
        let scratch = Scratch::new().unwrap();
        let folder = scratch.join("nbd").parent().unwrap().to_owned();
        (Export::open("volume", &node, access, 2, scratch).await.unwrap(), folder)
    }

    #[tokio::test]
    async fn a_daemon_ends_when_its_worker_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut export, _) = export(folder.path(), Access::Read, json!({"event": "none", "errno": 5, "sector": 8})).await;
        export.clients.clear();
        assert!(export.daemon.ended().await.unwrap() == End::Code(0));
    }

    #[tokio::test]
    async fn a_closed_export_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (export, scratch) = export(folder.path(), Access::Read, json!({"event": "none", "errno": 5, "sector": 8})).await;
        assert!(scratch.exists());
        export.close().await.unwrap();
        assert!(!scratch.exists());
    }

    #[tokio::test]
    async fn a_daemon_that_is_killed_fails_what_waits_for_it_and_may_be_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut export, _) = export(folder.path(), Access::Read, json!({"event": "none", "errno": 5, "sector": 8})).await;
        export.daemon.untie();
        let error = loop {
            if let Err(error) = export.clients()[1].read(0, 512).await {
                break error;
            }
        };
        let fault = export.fault(&error);
        assert!(fault.code == code::VOLUME_READ_FAILED && fault.class == Class::Transient, "{fault}");
        assert!(export.close().await.is_err());
    }

    #[tokio::test]
    async fn errors_of_the_disk_have_their_own_faults() {
        for (errno, expected) in [(28, code::POOL_FULL), (5, code::VOLUME_WRITE_FAILED)] {
            let folder = tempfile::tempdir().unwrap();
            let (export, _) =
                export(folder.path(), Access::Write, json!({"event": "none", "iotype": "write", "errno": errno})).await;
            let error = export.clients()[0].write(0, Bytes::from_static(b"x"), false).await.unwrap_err();
            let fault = export.fault(&error);
            assert!(fault.code == expected && fault.class == Class::Transient, "{fault}");
            export.clients()[0].read(0, 4096).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let (export, _) = export(folder.path(), Access::Read, json!({"event": "none", "errno": 5, "sector": 8})).await;
        let fault = export.fault(&export.clients()[0].read(4096, 512).await.unwrap_err());
        assert!(fault.code == code::VOLUME_READ_FAILED && fault.class == Class::Transient, "{fault}");
        export.clients()[0].read(0, 512).await.unwrap();
    }
}
