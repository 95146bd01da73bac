//! Other tools at the same work, as their manuals say, against the same server; and curl, which does nothing else than send.

use super::{
    measure::{Cost, measure},
    server::Server,
};
use anyhow::{Result, ensure};
use std::{
    fs,
    io::stderr,
    path::Path,
    process::{Command, Stdio},
};

/// restic, in a bucket of its own.
pub struct Restic<'a> {
    /// The server.
    pub server: &'a Server,
    /// For its cache.
    pub scratch: &'a Path,
}

impl Restic<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Cost> {
        let mut command = self.server.command("restic");
        command.env("RESTIC_REPOSITORY", format!("s3:{}/restic/repository", self.server.endpoint()));
        command.env("RESTIC_PASSWORD", "bench").env("RESTIC_CACHE_DIR", self.scratch.join("restic"));
        measure(self.server, command.arg("--quiet").args(arguments))
    }

    /// Makes the repository.
    pub fn init(&self) -> Result<()> {
        self.run(&["init"]).map(drop)
    }

    /// The next snapshot of the file.
    pub fn backup(&self, volume: &Path) -> Result<Cost> {
        self.run(&["backup", &volume.to_string_lossy()])
    }

    /// The last snapshot into a folder.
    pub fn restore(&self, into: &Path) -> Result<Cost> {
        self.run(&["restore", "latest", "--target", &into.to_string_lossy()])
    }
}

/// `rclone copyto`: the raw file, all of it.
pub fn rclone(server: &Server, volume: &Path) -> Result<Cost> {
    measure(server, server.command("rclone").arg("copyto").arg(volume).arg("s3:rclone/copied"))
}

/// `rclone copyto` back.
pub fn rclone_back(server: &Server, into: &Path) -> Result<Cost> {
    measure(server, server.command("rclone").args(["copyto", "s3:rclone/copied"]).arg(into))
}

/// A volume through NBD, streamed: `qemu-nbd`, `nbdcopy`, `rclone rcat`.
pub fn nbdcopy(server: &Server, volume: &Path, scratch: &Path) -> Result<Cost> {
    let script = "set -e; qemu-nbd -r -f raw --socket=\"$2\" \"$1\" & \
                  while ! [ -S \"$2\" ]; do :; done; nbdcopy \"nbd+unix:///?socket=$2\" - | rclone rcat s3:rclone/streamed; wait";
    let mut command = server.command("sh");
    measure(server, command.args(["-c", script, "sh"]).arg(volume).arg(scratch.join("nbd")))
}

/// The bucket of `put` and `get`.
pub const LIMITS: &str = "limits";

/// How much the server takes in when nothing else is done: `mib` in bodies of 32 MiB, four at a time, unsigned.
pub fn put(server: &Server, scratch: &Path, noise: &[u8], mib: u64) -> Result<Cost> {
    let body = scratch.join("body");
    fs::write(&body, noise)?;
    let urls = (0..mib.div_ceil(noise.len() as u64 >> 20)).map(|n| ["-T".into(), body.display().to_string(), url(server, n)]);
    curl(server, urls.flatten())
}

/// How quickly the server gives that back.
pub fn get(server: &Server, mib: u64, body_mib: u64) -> Result<Cost> {
    curl(server, (0..mib.div_ceil(body_mib)).flat_map(|n| ["-o".into(), "/dev/null".into(), url(server, n)]))
}

fn url(server: &Server, number: u64) -> String {
    format!("{}/{LIMITS}/{number}", server.endpoint())
}

fn curl(server: &Server, what: impl Iterator<Item = String>) -> Result<Cost> {
    measure(server, server.curl().args(["-Z", "--parallel-max", "4"]).args(what))
}

/// An error unless both files have the same bytes.
pub fn same(one: &Path, other: &Path) -> Result<()> {
    // It says where they differ, and standard output is for figures.
    let status = Command::new("cmp").arg(one).arg(other).stdout(Stdio::from(stderr())).status()?;
    ensure!(status.success(), "{} was not restored bit for bit", other.display());
    Ok(())
}
