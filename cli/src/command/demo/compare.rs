//! Compares what was restored with what was backed up, in two ways that share no code: `qemu-img compare`, and
//! digests of the source as QEMU extracts it and of the volume as our own reader reads it.

use super::{
    VOLUME,
    tool::{file, run},
};
use anyhow::{Context, ensure};
use longshore_workers::hypervisor::{Hypervisor, kvm::Kvm};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Bytes read at once.
const PIECE: u64 = 1 << 20;

/// Fails unless the volume in the pool has the bytes of the source's snapshot; returns their digest, hex.
pub(super) async fn volumes(size: u64, snapshot: &str, volume: &str, folder: &Path) -> anyhow::Result<String> {
    let pool = folder.join("pool");
    let source = folder.join(format!("{snapshot}.raw"));
    if !source.exists() {
        let chosen = format!("snapshot.name={snapshot}");
        let from = pool.join(VOLUME);
        run("qemu-img", ["convert", "-f", "qcow2", "-l", &chosen, "-O", "raw", &file(&from), &file(&source)]).await?;
    }
    let format = if volume.ends_with(".raw") { "raw" } else { "qcow2" };
    run("qemu-img", ["compare", "-f", "raw", "-F", format, &file(&source), &file(&pool.join(volume))]).await?;
    let wanted = tokio::task::spawn_blocking(move || digest_of_file(&source)).await??;
    let found = digest_of_volume(&pool, volume, size).await?;
    ensure!(wanted == found, "{volume}: BLAKE3 is {found}, and {wanted} of the source");
    Ok(found)
}

fn digest_of_file(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?).with_context(|| format!("read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

async fn digest_of_volume(pool: &Path, volume: &str, size: u64) -> anyhow::Result<String> {
    let reader = Kvm::new(pool.to_owned()).reader(volume, None).await?;
    ensure!(reader.size() == size, "{volume} has {} bytes, not {size}", reader.size());
    let mut hasher = blake3::Hasher::new();
    for offset in (0..size).step_by(PIECE as usize) {
        let piece = reader.read(offset, Ord::min(PIECE, size - offset) as u32).await?;
        hasher.update(&piece);
    }
    reader.close().await?;
    Ok(hasher.finalize().to_hex().to_string())
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
