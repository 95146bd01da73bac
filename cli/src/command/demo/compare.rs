//! Compares what was restored with what was backed up, in two ways that share no code: `qemu-img compare`, and
//! digests of the source as QEMU extracts it and of the volume as our own reader reads it.

use super::{
    VOLUME,
    tool::{file, run},
};
use anyhow::{Context, ensure};
use blake3::Hasher;
use indicatif::{ProgressBar, ProgressStyle};
use longshore_schema::steps::volume::Format;
use longshore_workers::hypervisor::{Hypervisor, kvm::Kvm};
use rustix::{fs::SeekFrom, io::Errno};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Bytes read at once.
const PIECE: u64 = 1 << 20;
/// Bytes of a volume whose runs are asked for at once; whole pieces.
const WINDOW: u64 = 1 << 30;

/// Fails unless the volume in the pool has the bytes of the source's snapshot; returns their digest, hex.
pub(super) async fn volumes(size: u64, snapshot: &str, volume: &str, folder: &Path) -> anyhow::Result<String> {
    let pool = folder.join("pool");
    let source = folder.join(format!("{snapshot}.raw"));
    if !source.exists() {
        let chosen = format!("snapshot.name={snapshot}");
        let from = pool.join(VOLUME);
        run("qemu-img", ["convert", "-f", "qcow2", "-l", &chosen, "-O", "raw", &file(&from), &file(&source)]).await?;
    }
    let (format, named) = if volume.ends_with(".raw") { (Format::Raw, "raw") } else { (Format::Qcow2, "qcow2") };
    run("qemu-img", ["compare", "-f", "raw", "-F", named, &file(&source), &file(&pool.join(volume))]).await?;
    let wanted = tokio::task::spawn_blocking(move || digest_of_file(&source)).await??;
    let found = digest_of_volume(&pool, volume, format, size).await?;
    ensure!(wanted == found, "{volume}: BLAKE3 is {found}, and {wanted} of the source");
    Ok(found)
}

/// The digest of all pieces that aren't zeros, each after its offset. Holes aren't read.
fn digest_of_file(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE as usize]);
    let mut at = 0;
    while let Some(data) = next_data(&file, at).with_context(|| format!("read {}", path.display()))? {
        at = data / PIECE * PIECE;
        let part = &mut piece[..Ord::min(PIECE, size - at) as usize];
        file.read_exact_at(part, at).with_context(|| format!("read {}", path.display()))?;
        take(&mut hasher, at, part);
        at += PIECE;
        if at >= size {
            break;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Where the next data is, from an offset on; `None` if there is only a hole.
fn next_data(file: &File, at: u64) -> std::io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same of a volume, as our own reader reads it.
async fn digest_of_volume(pool: &Path, volume: &str, format: Format, size: u64) -> anyhow::Result<String> {
    let reader = Kvm::new(pool.to_owned()).reader(volume, None, Some(format)).await?;
    ensure!(reader.size() == size, "{volume} has {} bytes, not {size}", reader.size());
    let mut hasher = Hasher::new();
    let bar = ProgressBar::new(size).with_prefix(volume.to_owned());
    if let Ok(style) = ProgressStyle::with_template("compare {prefix} {bar:24} {bytes:>11}/{total_bytes:11}") {
        bar.set_style(style);
    }
    for window in (0..size).step_by(WINDOW as usize) {
        let runs = reader.extents(window, Ord::min(WINDOW, size - window)).await?;
        let mut next = window;
        for run in runs.iter().filter(|it| !it.zero) {
            next = Ord::max(next, run.offset / PIECE * PIECE);
            while next < run.offset + run.bytes {
                let piece = reader.read(next, Ord::min(PIECE, size - next) as u32).await?;
                take(&mut hasher, next, &piece);
                next += PIECE;
                bar.set_position(Ord::min(next, size));
            }
        }
        bar.set_position(Ord::min(window + WINDOW, size));
    }
    bar.finish_and_clear();
    reader.close().await?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn take(hasher: &mut Hasher, at: u64, piece: &[u8]) {
    if piece.iter().any(|it| *it != 0) {
        hasher.update(&at.to_le_bytes()).update(piece);
    }
}

/// Checks the file system on a raw volume, takes its files out of it, and compares each with `files`.
pub(super) async fn files(files: &Path, volume: &Path, folder: &Path) -> anyhow::Result<String> {
    run("e2fsck", ["-fn", &file(volume)]).await.context("check the restored file system")?;
    let out = folder.join("out");
    fs::create_dir(&out)?;
    run("debugfs", ["-R", &format!("rdump / {}", file(&out)), &file(volume)]).await?;
    let mut count = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(files.join(&below))? {
            let entry = entry?;
            let name = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(name);
                continue;
            }
            let restored = fs::read(out.join(&name)).with_context(|| format!("read the restored {}", name.display()))?;
            ensure!(restored == fs::read(files.join(&name))?, "{} differs", name.display());
            count += 1;
        }
    }
    fs::remove_dir_all(&out)?;
    Ok(format!("e2fsck finds nothing wrong, and all {count} files are equal"))
}
