//! The suite on real qcow2 and raw files, with QEMU's own tools as the stranger; then what only this kind has:
//! chains, headers, and snapshots of volumes that changed their size.

use super::{super::suite, *};
use crate::nbd::Client;
use longshore_schema::fault::Class;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

mod hostile;
mod life;
mod model;
mod whole;

/// A pool in a folder of its own.
struct Pool {
    folder: TempDir,
    kvm: Kvm,
    format: Format,
}

fn pool(format: Format) -> Pool {
    let folder = tempfile::tempdir().unwrap();
    let kvm = Kvm::new(folder.path().join("pool")).with_backing_files();
    std::fs::create_dir(folder.path().join("pool")).unwrap();
    Pool { folder, kvm, format }
}

/// Runs a tool that must succeed.
#[track_caller]
fn run(tool: &str, args: &[&str]) {
    let done = Command::new(tool).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Pool {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("pool").join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn written_format(&self) -> &'static str {
        match self.format {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }

    /// A file with these bytes, outside of the pool.
    fn beside(&self, data: &[u8]) -> PathBuf {
        let path = self.folder.path().join("data");
        std::fs::write(&path, data).unwrap();
        path
    }

    /// `qemu-io` on a volume; false if it couldn't get its lock.
    fn io(&self, volume: &str, command: &str) -> bool {
        let done = Command::new("qemu-io")
            .args(["-f", self.written_format(), "-c", command, &self.text(volume)])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() || said.contains("lock"), "{command}: {said}");
        assert!(!said.contains("failed"), "{command}: {said}");
        done.status.success()
    }
}

/// A process that is killed and reaped when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[async_trait]
impl suite::Fixture for Pool {
    fn hypervisor(&self) -> &dyn Hypervisor {
        &self.kvm
    }

    fn format(&self) -> Format {
        self.format
    }

    async fn make(&self, volume: &str, size: u64, pieces: &[(u64, Vec<u8>)]) {
        match self.format {
            Format::Qcow2 => run("qemu-img", &["create", "-q", "-f", "qcow2", &self.text(volume), &size.to_string()]),
            // Truly odd sizes, which `qemu-img create` would round.
            Format::Raw => std::fs::File::create(self.path(volume)).unwrap().set_len(size).unwrap(),
        }
        for (offset, data) in pieces {
            assert!(self.change(volume, *offset, data).await);
        }
    }

    async fn snapshot(&self, volume: &str, snapshot: &str) -> bool {
        match self.format {
            Format::Qcow2 => run("qemu-img", &["snapshot", "-c", snapshot, &self.text(volume)]),
            Format::Raw => return false,
        }
        true
    }

    async fn change(&self, volume: &str, offset: u64, data: &[u8]) -> bool {
        let from = self.beside(data);
        self.io(volume, &format!("write -q -s {} {offset} {}", from.display(), data.len()))
    }

    async fn open(&self, volume: &str) -> Box<dyn Send> {
        let socket = self.folder.path().join("open");
        let child = Command::new("qemu-nbd")
            .args(["-f", self.written_format(), "-k", socket.to_str().unwrap(), &self.text(volume)])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Running(child);
        // It answers when it has opened the image, not when it listens; and it ends when its client does.
        let client = loop {
            if let Ok(stream) = tokio::net::UnixStream::connect(&socket).await {
                break Client::connect(stream, "").await.unwrap();
            }
            assert!(running.0.try_wait().unwrap().is_none(), "qemu-nbd ended");
            tokio::task::yield_now().await;
        };
        Box::new((running, client))
    }

    async fn content(&self, volume: &str) -> Vec<u8> {
        let raw = self.folder.path().join("content");
        run("qemu-img", &["convert", "-f", self.written_format(), "-O", "raw", &self.text(volume), raw.to_str().unwrap()]);
        std::fs::read(raw).unwrap()
    }

    async fn names(&self) -> Vec<String> {
        names(&self.folder.path().join("pool"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn refused<T>(result: Result<T, Fault>, code: &str, class: Class) -> String {
    match result {
        Ok(_) => panic!("it was done, where {code} was expected"),
        Err(fault) => {
            assert!(fault.code == code && fault.class == class, "{fault} ({:?}) where {code} was expected", fault.class);
            fault.message
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_qcow2() {
    suite::run_all(|| pool(Format::Qcow2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_raw() {
    suite::run_all(|| pool(Format::Raw)).await;
}

#[tokio::test]
async fn the_tools_are_here_and_say_their_version() {
    let tools = tools().await;
    assert_eq!(tools.keys().collect::<Vec<_>>(), ["qemu-img", "qemu-nbd"]);
    assert!(tools.values().all(|it| it.starts_with(|it: char| it.is_ascii_digit())), "{tools:?}");
}
