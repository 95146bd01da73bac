//! Writes one draft: a qcow2 through a writable export of QEMU's, a raw one by itself, as it is a file and nothing else. Bytes
//! that go through an export are copied twice more.

use super::{
    directory::Directory,
    export::{Access, Export, judged},
    image::{Backing, Image},
    name,
    scratch::Scratch,
};
use crate::hypervisor::{BlockWrite, Draft};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::volume::Format,
};
use rustix::{fs::FallocateFlags, io::Errno};
use serde_json::json;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tokio::process::Command;

/// QEMU's disks are whole sectors: a size that isn't is rounded up, as it would be for a guest.
const SECTOR: u64 = 512;

/// An open draft.
#[derive(Debug)]
pub(super) struct Writer {
    target: Target,
    directory: PathBuf,
    draft: String,
}

#[derive(Debug)]
enum Target {
    Qcow2(Box<Export>),
    Raw(Arc<RawFile>),
}

/// A raw image of ours.
#[derive(Debug)]
struct RawFile {
    file: File,
    volume: String,
    size: u64,
}

impl Writer {
    /// Makes the empty image, in place of one of the same attempt, and opens it.
    pub(super) async fn create(directory: PathBuf, draft: &Draft, size: u64, format: Format) -> Result<Writer, Fault> {
        let file = name::draft(draft.operation, draft.attempt);
        let absurd = || Fault::permanent(code::IMAGE_INVALID, format!("{size} bytes are no volume's size"));
        let size = size.checked_next_multiple_of(SECTOR).filter(|it| *it <= 1 << 60).ok_or_else(absurd)?;
        let (path, made) = {
            let (directory, file, operation, attempt) = (directory.clone(), file.clone(), draft.operation, draft.attempt);
            super::blocking(move || {
                forget_earlier(&directory, operation, attempt)?;
                make(&directory, &file, size, format)
            })
            .await?
        };
        let target = match format {
            Format::Raw => Target::Raw(Arc::new(RawFile { file: made, volume: draft.volume.clone(), size })),
            Format::Qcow2 => Target::Qcow2(Box::new(export(&draft.volume, &path, size).await?)),
        };
        Ok(Writer { target, directory, draft: file })
    }
}

/// Makes a file an empty qcow2, and opens that.
async fn export(volume: &str, path: &Path, size: u64) -> Result<Export, Fault> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"]);
    command.arg("--").arg(path).arg(size.to_string());
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let made = command.output().await;
    let made =
        made.map_err(|error| Fault::transient(code::POOL_UNREACHABLE, format!("start qemu-img on this worker: {error}")))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(judged(volume, code::VOLUME_WRITE_FAILED, said.trim()));
    }
    let node = json!({"driver": "qcow2", "file": {"driver": "file", "filename": path, "locking": "on"}});
    Export::open(volume, &node, Access::Write, 1, Scratch::new()?).await
}

/// What attempts before this one left would take the room that this one needs.
fn forget_earlier(directory: &Path, operation: OperationId, attempt: u32) -> Result<(), Fault> {
    let directory = Directory::open(directory)?;
    for file in directory.names()? {
        if name::attempt_of(operation, &file).is_some_and(|it| it < attempt) {
            directory.unlink(&file)?;
        }
    }
    Ok(())
}

/// Makes the file; a raw one is complete with that. Blocks.
fn make(directory: &Path, file: &str, size: u64, format: Format) -> Result<(PathBuf, File), Fault> {
    let directory = Directory::open(directory)?;
    directory.unlink(file)?;
    let made = directory.create(file)?;
    match format {
        Format::Qcow2 => (),
        Format::Raw => made.set_len(size).map_err(|error| unwritten("set the size of a volume", &error))?,
    }
    Ok((directory.path_of(file), made))
}

/// What the file system says where no export is in between.
fn unwritten(doing: &str, error: &io::Error) -> Fault {
    let message = format!("{doing}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::transient(code::POOL_FULL, message),
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => Fault::permanent(code::VOLUME_WRITE_FAILED, message),
        _ => Fault::transient(code::VOLUME_WRITE_FAILED, message),
    }
}

impl RawFile {
    /// Fails unless it is within the volume.
    fn check(&self, offset: u64, bytes: u64) -> Result<(), Fault> {
        let within = offset.checked_add(bytes).is_some_and(|end| end <= self.size);
        let why = || format!("{}: {bytes} bytes at {offset} are beyond its {} bytes", self.volume, self.size);
        within.then_some(()).ok_or_else(|| Fault::permanent(code::VOLUME_WRITE_FAILED, why()))
    }

    fn failed(&self, error: &io::Error) -> Fault {
        unwritten(&format!("write {}", self.volume), error)
    }

    /// Blocks.
    fn zero(&self, offset: u64, bytes: u64) -> Result<(), Fault> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(offset, bytes),
            done => done.map_err(|error| self.failed(&error.into())),
        }
    }

    /// Where the file system makes no holes.
    fn write_zeros(&self, offset: u64, bytes: u64) -> Result<(), Fault> {
        let zeros = vec![0; 1 << 20];
        let mut at = offset;
        while at < offset + bytes {
            let length = zeros.len().min(usize::try_from(offset + bytes - at).unwrap_or(usize::MAX));
            self.file.write_all_at(&zeros[..length], at).map_err(|error| self.failed(&error))?;
            at += length as u64;
        }
        Ok(())
    }
}

#[async_trait]
impl BlockWrite for Writer {
    async fn write(&self, offset: u64, mut data: Bytes) -> Result<(), Fault> {
        let export = match &self.target {
            Target::Raw(raw) => {
                raw.check(offset, data.len() as u64)?;
                let raw = raw.clone();
                return super::blocking(move || raw.file.write_all_at(&data, offset).map_err(|error| raw.failed(&error))).await;
            }
            Target::Qcow2(export) => export,
        };
        let client = &export.clients()[0];
        let most = client.export().block.maximum as usize;
        let mut at = offset;
        while !data.is_empty() {
            let part = data.split_to(data.len().min(most));
            let bytes = part.len() as u64;
            client.write(at, part, false).await.map_err(|error| export.fault(&error))?;
            at += bytes;
        }
        Ok(())
    }

    async fn zero(&self, offset: u64, bytes: u64) -> Result<(), Fault> {
        let export = match &self.target {
            Target::Raw(raw) => {
                raw.check(offset, bytes)?;
                let raw = raw.clone();
                return super::blocking(move || if bytes == 0 { Ok(()) } else { raw.zero(offset, bytes) }).await;
            }
            Target::Qcow2(export) => export,
        };
        // What reads as zeros already is left alone: to zero an unallocated cluster would allocate its table.
        let client = &export.clients()[0];
        let runs = client.block_status(offset, bytes).await.map_err(|error| export.fault(&error))?;
        for run in runs.iter().filter(|it| !it.zero) {
            client.write_zeroes(run.offset, run.bytes, true).await.map_err(|error| export.fault(&error))?;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), Fault> {
        let Writer { target, directory, draft } = *self;
        let format = match target {
            Target::Raw(_) => Format::Raw,
            Target::Qcow2(export) => {
                export.clients()[0].flush().await.map_err(|error| export.fault(&error))?;
                export.close().await?;
                Format::Qcow2
            }
        };
        super::blocking(move || {
            let directory = Directory::open(&directory)?;
            // It must be there, and still be an image: somebody may have discarded it meanwhile.
            Image::inspect(&directory, Backing::Refused, &draft, Some(format))?;
            let gone = || Fault::transient(code::VOLUME_WRITE_FAILED, format!("the draft {draft} is gone"));
            let file = directory.read(&draft)?.ok_or_else(gone)?;
            file.sync_all().map_err(|error| unwritten(&format!("make the draft {draft} durable"), &error))?;
            directory.sync()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_schema::fault::Class;

    #[test]
    fn a_file_system_that_is_full_when_it_is_to_keep_its_word_is_a_full_pool() {
        for (errno, code, class) in [
            (Errno::NOSPC, code::POOL_FULL, Class::Transient),
            (Errno::DQUOT, code::POOL_FULL, Class::Transient),
            (Errno::FBIG, code::VOLUME_WRITE_FAILED, Class::Permanent),
            (Errno::IO, code::VOLUME_WRITE_FAILED, Class::Transient),
        ] {
            let fault = unwritten("make the draft durable", &errno.into());
            assert!(fault.code == code && fault.class == class, "{fault}");
        }
    }
}
