//! A copy of the user's own image, which is looked at before anything is made. The user's file is only read.

use super::{
    VOLUME,
    disk::{Change, Disk},
    tool::{file, run},
};
use crate::{ended::Ended, print::human};
use anyhow::{Context, ensure};
use async_trait::async_trait;
use longshore_workers::hypervisor::kvm;
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const SNAPSHOTS: [&str; 2] = ["longshore-demo-1", "longshore-demo-2"];
/// Places that are written to, and how much to each.
const PLACES: u64 = 64;
const PIECE: u64 = 64 << 10;

/// Formats that an image may be declared to have.
pub(super) const FORMATS: [&str; 7] = ["raw", "qcow2", "vmdk", "vhdx", "vpc", "vdi", "qed"];

/// An image that can be read, and its format.
pub(super) struct Found {
    path: PathBuf,
    format: String,
    length: u64,
    allocated: u64,
}

impl Found {
    /// Looks at the file; whatever isn't one that can be read is a mistake of the command line's.
    pub(super) fn look(path: &Path, format: Option<&str>) -> Result<Found, Ended> {
        let wrong = |why: &str| Ended::usage(format!("--image {}: {why}", path.display()));
        // A FIFO would block whoever opens it.
        let about = std::fs::metadata(path).map_err(|error| wrong(&error.to_string()))?;
        if !about.is_file() {
            return Err(wrong("it is not a regular file"));
        }
        let mut start = vec![];
        let read = File::open(path).and_then(|it| it.take(4096).read_to_end(&mut start));
        read.map_err(|error| wrong(&error.to_string()))?;
        if start.is_empty() {
            return Err(wrong("it is empty"));
        }
        let looks = kvm::looks_like(&start);
        let said = format.map(str::to_owned).or_else(|| by_name(path, looks));
        let said = match (said, looks) {
            (Some(said), _) => said,
            (None, None) => "raw".to_owned(),
            (None, Some(looks)) => {
                return Err(wrong(&format!("it begins as a {looks} file does: say --format, raw if it isn't one")));
            }
        };
        let path = std::path::absolute(path).map_err(|error| wrong(&error.to_string()))?;
        Ok(Found { path, format: said, length: about.len(), allocated: (about.blocks() * 512).min(about.len()) })
    }

    /// What will be read.
    pub(super) fn said(&self) -> String {
        let (length, allocated) = (human::bytes(self.length), human::bytes(self.allocated));
        format!(
            "{} ({}): {allocated} of its {length} have data, which is copied, backed up, and read back four times",
            self.path.display(),
            self.format
        )
    }
}

/// The format that a name's suffix says, unless a `.img`, which may be anything, looks like something.
fn by_name(path: &Path, looks: Option<&str>) -> Option<String> {
    let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
    match suffix.as_str() {
        "img" => looks.is_none().then(|| "raw".to_owned()),
        "vhd" => Some("vpc".to_owned()),
        other => FORMATS.contains(&other).then(|| other.to_owned()),
    }
}

/// A copy of an image, with the first snapshot.
pub(super) struct Copied {
    size: u64,
    volume: PathBuf,
    said: String,
}

impl Copied {
    /// Copies an image into the pool. A qcow2 that stands alone is copied as it is (sharing blocks where the file
    /// system can); anything else is converted, which also makes one file of an image and its backing files.
    pub(super) async fn of(image: &Found, folder: &Path) -> anyhow::Result<Copied> {
        let (path, format) = (&image.path, image.format.as_str());
        let named = || format!("read {}", path.display());
        let info = run("qemu-img", ["info", "--output=json", "-f", format, &file(path)]).await.with_context(named)?;
        let info: Value = serde_json::from_str(&info).with_context(named)?;
        let size = info["virtual-size"].as_u64().with_context(named)?;
        ensure!(size > 0, "{} is empty", path.display());
        let volume = folder.join("pool").join(VOLUME);
        let alone = format == "qcow2"
            && info.get("backing-filename").is_none()
            && info["format-specific"]["data"].get("data-file").is_none();
        let how = if alone {
            run("cp", ["--sparse=auto", "--reflink=auto", "--no-preserve=mode", &file(path), &file(&volume)]).await?;
            "copied as it is"
        } else {
            run("qemu-img", ["convert", "-f", format, "-O", "qcow2", &file(path), &file(&volume)]).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_a_mistake_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        std::fs::write(at("empty"), b"").unwrap();
        std::fs::write(at("disk"), b"QFI\xfb\0\0\0\x03").unwrap();
        std::fs::copy(at("disk"), at("cloud.img")).unwrap();
        for wrong in
            [at("fifo"), at("empty"), at("missing"), at("disk"), at("cloud.img"), folder.path().to_owned(), "/dev/null".into()]
        {
            assert!(matches!(Found::look(&wrong, None), Err(Ended::Usage(_))), "{}", wrong.display());
        }
        std::fs::copy(at("disk"), at("disk.qcow2")).unwrap();
        std::fs::write(at("plain"), b"bytes").unwrap();
        for (name, said, format) in [
            ("disk", Some("qcow2"), "qcow2"),
            ("disk", Some("raw"), "raw"),
            ("disk.qcow2", None, "qcow2"),
            ("plain", None, "raw"),
        ] {
            assert_eq!(Found::look(&at(name), said).unwrap().format, format, "{name} {said:?}");
        }
    }
}
