//! A copy of the user's own image. The user's file is only read.

use super::{
    VOLUME,
    disk::{Change, Disk},
    tool::{file, run},
};
use crate::print::human;
use anyhow::{Context, ensure};
use async_trait::async_trait;
use serde_json::Value;
use std::path::{Path, PathBuf};

const SNAPSHOTS: [&str; 2] = ["longshore-demo-1", "longshore-demo-2"];
/// Places that are written to, and how much to each.
const PLACES: u64 = 64;
const PIECE: u64 = 64 << 10;

/// A copy of an image, with the first snapshot.
pub(super) struct Copied {
    size: u64,
    volume: PathBuf,
    said: String,
}

impl Copied {
    /// Copies an image into the pool. A qcow2 that stands alone is copied as it is (sharing blocks where the file
    /// system can); anything else is converted, which also makes one file of an image and its backing files.
    pub(super) async fn of(path: &Path, folder: &Path) -> anyhow::Result<Copied> {
        let path = std::path::absolute(path)?;
        let named = || format!("read {}", path.display());
        let info = run("qemu-img", ["info", "--output=json", &file(&path)]).await.with_context(named)?;
        let info: Value = serde_json::from_str(&info).with_context(named)?;
        let size = info["virtual-size"].as_u64().with_context(named)?;
        ensure!(size > 0, "{} is empty", path.display());
        let volume = folder.join("pool").join(VOLUME);
        let alone = info["format"] == "qcow2"
            && info.get("backing-filename").is_none()
            && info["format-specific"]["data"].get("data-file").is_none();
        let how = if alone {
            run("cp", ["--sparse=auto", "--reflink=auto", "--no-preserve=mode", &file(&path), &file(&volume)]).await?;
            "copied as it is"
        } else {
            run("qemu-img", ["convert", "-O", "qcow2", &file(&path), &file(&volume)]).await?;
            "converted to a qcow2 of its own"
        };
        run("qemu-img", ["snapshot", "-c", SNAPSHOTS[0], &file(&volume)]).await?;
        let said =
            format!("{} ({}) {how}; your file is left alone; snapshot {}", path.display(), human::bytes(size), SNAPSHOTS[0]);
        Ok(Copied { size, volume, said })
    }
}

#[async_trait]
impl Disk for Copied {
    fn size(&self) -> u64 {
        self.size
    }

    fn snapshots(&self) -> [&str; 2] {
        SNAPSHOTS
    }

    fn said(&self) -> String {
        self.said.clone()
    }

    async fn change(&self) -> anyhow::Result<Change> {
        let mut words = vec!["-f".to_owned(), "qcow2".to_owned()];
        let mut bytes = 0;
        for n in 0..PLACES {
            let offset = self.size / PLACES * n / 512 * 512;
            let length = Ord::min(Ord::min(PIECE, self.size / PLACES), self.size - offset) / 512 * 512;
            if length > 0 {
                bytes += length;
                words.extend(["-c".to_owned(), format!("write -q -P {} {offset} {length}", n + 1)]);
            }
        }
        words.push(file(&self.volume));
        run("qemu-io", words).await?;
        run("qemu-img", ["snapshot", "-c", SNAPSHOTS[1], &file(&self.volume)]).await?;
        Ok(Change { said: format!("{} written to {PLACES} places of the copy", human::bytes(bytes)), bytes })
    }

    fn files(&self) -> Option<&Path> {
        None
    }
}
