//! A disk as a guest leaves it: an ext4 file system with files, in a qcow2 with internal snapshots. No root is
//! needed: mke2fs fills it, debugfs changes it, and qemu-io writes the blocks that changed, as a guest would.

use super::{
    VOLUME,
    tool::{file, run},
};
use crate::print::human;
use anyhow::Context;
use async_trait::async_trait;
use longshore_schema::site::Size;
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Blocks are compared, and written, in pieces of this size.
const PIECE: usize = 64 << 10;
const SNAPSHOTS: [&str; 2] = ["monday", "tuesday"];

/// A size that a made disk may have.
pub(super) fn size(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    (64 << 20..=1 << 40).contains(&size.0).then_some(size).ok_or_else(|| "a made disk has 64 MiB to 1 TiB".into())
}

/// A disk of the demo's.
#[async_trait]
pub(super) trait Disk: Send + Sync {
    /// The size that a guest sees.
    fn size(&self) -> u64;
    /// Names of the two snapshots; the first one exists.
    fn snapshots(&self) -> [&str; 2];
    /// What was made.
    fn said(&self) -> String;
    /// Writes to it, and takes the second snapshot.
    async fn change(&self) -> anyhow::Result<Change>;
    /// The files that it has in the second snapshot, where that is known.
    fn files(&self) -> Option<&Path>;
}

/// What was written.
pub(super) struct Change {
    /// For people.
    pub(super) said: String,
    /// Bytes.
    pub(super) bytes: u64,
}

/// A disk with files that are made here.
pub(super) struct Made {
    size: u64,
    folder: PathBuf,
    files: PathBuf,
    count: usize,
    bytes: u64,
}

impl Made {
    /// Makes files, a file system of them, and a qcow2 of that with the first snapshot.
    pub(super) async fn new(size: u64, folder: &Path) -> anyhow::Result<Made> {
        let files = folder.join("files");
        let (raw, volume) = (folder.join("disk.raw"), folder.join("pool").join(VOLUME));
        let photos = (size / (12 << 20)).clamp(4, 128);
        let mut made = Made { size, folder: folder.to_owned(), files, count: 0, bytes: 0 };
        for n in 0..photos {
            made.write(&format!("photos/{n:03}.jpg"), &noise(n, 3 << 20))?;
        }
        for n in 0..photos * 5 {
            made.write(&format!("documents/report-{n:03}.txt"), &prose(n, 256 << 10))?;
        }
        let size = size.to_string();
        File::create(&raw)?.set_len(made.size).with_context(|| format!("make a disk of {size} bytes"))?;
        let words = ["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0", "-L", "demo", "-d"];
        let words = words.map(str::to_owned).into_iter().chain([file(&made.files), file(&raw)]);
        run("mke2fs", words).await?;
        run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", &file(&raw), &file(&volume)]).await?;
        run("qemu-img", ["snapshot", "-c", SNAPSHOTS[0], &file(&volume)]).await?;
        Ok(made)
    }

    fn write(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        self.count += 1;
        self.bytes += content.len() as u64;
        write(&self.files, name, content)
    }
}

#[async_trait]
impl Disk for Made {
    fn size(&self) -> u64 {
        self.size
    }

    fn snapshots(&self) -> [&str; 2] {
        SNAPSHOTS
    }

    fn said(&self) -> String {
        let (size, bytes) = (human::bytes(self.size), human::bytes(self.bytes));
        format!("{size} of ext4 with {} files of {bytes}, as qcow2; snapshot {}", self.count, SNAPSHOTS[0])
    }

    async fn change(&self) -> anyhow::Result<Change> {
        let (before, after) = (self.folder.join("disk.raw"), self.folder.join("disk-after.raw"));
        let volume = self.folder.join("pool").join(VOLUME);
        run("cp", ["--sparse=always", "--reflink=auto", &file(&before), &file(&after)]).await?;
        let contents = [
            ("photos/003.jpg", noise(1003, 3 << 20)),
            ("documents/report-005.txt", prose(1005, 256 << 10)),
            ("photos/new.jpg", noise(77, 1 << 20)),
        ];
        let mut script = String::new();
        for (name, content) in &contents {
            if self.files.join(name).exists() {
                script.push_str(&format!("rm {name}\n"));
            }
            write(&self.files, name, content)?;
            script.push_str(&format!("write {} {name}\n", file(&self.files.join(name))));
        }
        let commands = self.folder.join("changes");
        fs::write(&commands, script)?;
        run("debugfs", ["-w", "-f", &file(&commands), &file(&after)]).await?;
        run("e2fsck", ["-fn", &file(&after)]).await.context("check the changed file system")?;
        let (folder, from, to) = (self.folder.clone(), before, after);
        let patches = tokio::task::spawn_blocking(move || patches(&folder, &from, &to)).await??;
        let bytes = patches.iter().map(|it| it.bytes).sum();
        let mut words = vec!["-f".to_owned(), "qcow2".to_owned()];
        for it in &patches {
            words.extend(["-c".to_owned(), format!("write -q -s {} {} {}", file(&it.content), it.offset, it.bytes)]);
        }
        words.push(file(&volume));
        run("qemu-io", words).await?;
        run("qemu-img", ["snapshot", "-c", SNAPSHOTS[1], &file(&volume)]).await?;
        let said = format!("2 files rewritten and 1 new: {} of blocks in {} places", human::bytes(bytes), patches.len());
        Ok(Change { said, bytes })
    }

    fn files(&self) -> Option<&Path> {
        Some(&self.files)
    }
}

/// A run of bytes that differ.
struct Patch {
    offset: u64,
    bytes: u64,
    content: PathBuf,
}

/// What has to be written to a disk that is `before` to make it `after`.
fn patches(folder: &Path, before: &Path, after: &Path) -> anyhow::Result<Vec<Patch>> {
    let (mut before, mut after) = (File::open(before)?, File::open(after)?);
    let (mut old, mut new) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut patches, mut run, mut offset) = (Vec::<Patch>::new(), vec![], 0u64);
    let size = after.metadata()?.len();
    while offset < size {
        let piece = usize::try_from(Ord::min(size - offset, PIECE as u64))?;
        before.read_exact(&mut old[..piece])?;
        after.read_exact(&mut new[..piece])?;
        let differs = old[..piece] != new[..piece];
        if differs {
            run.extend_from_slice(&new[..piece]);
        }
        offset += piece as u64;
        if !run.is_empty() && (!differs || offset == size) {
            let end = if differs { offset } else { offset - piece as u64 };
            let content = folder.join(format!("patch-{}", patches.len()));
            fs::write(&content, &run)?;
            patches.push(Patch { offset: end - run.len() as u64, bytes: run.len() as u64, content });
            run.clear();
        }
    }
    Ok(patches)
}

fn write(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))
}

/// Bytes that don't compress, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// Text that compresses as text does, the same for the same seed.
fn prose(seed: u64, bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "harbour", "crane", "of", "the", "ship", "carries", "and", "tide", "a", "rope", "over", "quay", "in", "fog", "cargo",
        "is",
    ];
    let mut text = String::with_capacity(bytes + 16);
    for byte in noise(seed, bytes / 4) {
        text.push_str(WORDS[usize::from(byte % 16)]);
        text.push(if byte > 250 { '\n' } else { ' ' });
        if text.len() >= bytes {
            break;
        }
    }
    text.truncate(bytes);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_make_the_one_disk_of_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let before = noise(1, 10 * PIECE + 100);
        let mut after = before.clone();
        for at in [0, 3 * PIECE + 5, 4 * PIECE, 10 * PIECE + 99] {
            after[at] ^= 1;
        }
        let paths = ["before", "after"].map(|it| folder.path().join(it));
        fs::write(&paths[0], &before).unwrap();
        fs::write(&paths[1], &after).unwrap();
        let found = patches(folder.path(), &paths[0], &paths[1]).unwrap();
        let mut made = before;
        for it in &found {
            let at = usize::try_from(it.offset).unwrap();
            made.splice(at..at + usize::try_from(it.bytes).unwrap(), fs::read(&it.content).unwrap());
        }
        assert_eq!(made, after);
        let places: Vec<_> = found.iter().map(|it| (it.offset, it.bytes)).collect();
        let piece = PIECE as u64;
        assert_eq!(places, [(0, piece), (3 * piece, 2 * piece), (10 * piece, 100)]);
    }
}
