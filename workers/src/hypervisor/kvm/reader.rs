//! Reads a volume or one of its snapshots through a read-only export.

use super::{
    directory::Directory,
    export::{Access, Export},
    image::{Backing, Image, Stamp, invalid},
    past,
    scratch::Scratch,
};
use crate::hypervisor::{BlockRead, Extent};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use longshore_schema::{
    fault::{Fault, code},
    steps::volume::{Format, Measured},
};
use serde_json::Value;
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio_util::sync::CancellationToken;

/// Connections of one reader: two were quickest where one, two, four and eight were tried (`kvm-xen.md`, 1.7).
const CONNECTIONS: usize = 2;
/// How much of a volume is asked for at once when it is measured: its runs are held in memory.
const WINDOW: u64 = 64 << 30;

/// A frozen image. While it lives, QEMU refuses every writer of the volume and of what lies below it. Others
/// it can't refuse: `close` tells of them.
#[derive(Debug)]
pub(super) struct Reader {
    export: Export,
    size: u64,
    format: Format,
    /// The files of the chain, held open, and what they were like when they were locked.
    files: Vec<(File, Stamp)>,
    volume: String,
    next: AtomicUsize,
}

impl Reader {
    /// Inspects, exports, and inspects again: what was judged safe must be what QEMU has locked now. Whether all of it is
    /// there is looked at once it is locked.
    pub(super) async fn open(
        directory: PathBuf,
        backing: Backing,
        volume: &str,
        snapshot: Option<&str>,
        format: Option<Format>,
    ) -> Result<Reader, Fault> {
        let scratch = Scratch::new()?;
        let past = scratch.join("past.qcow2");
        let (image, node) = {
            let (directory, volume, snapshot) = (directory.clone(), volume.to_owned(), snapshot.map(str::to_owned));
            super::blocking(move || {
                describe(&Directory::open(&directory)?, (backing, format), &volume, snapshot.as_deref(), &past)
            })
            .await?
        };
        let export = Export::open(volume, &node, Access::Read, CONNECTIONS, scratch).await?;
        let stop = CancellationToken::new();
        let _on_drop = stop.clone().drop_guard();
        let (now, files) = {
            // What it was taken for before it was locked counts: bytes that changed since may look like anything.
            let (volume, format, snapshot) = (volume.to_owned(), Some(image.format()), snapshot.map(str::to_owned));
            super::blocking(move || {
                let (now, files) = Image::inspect(&Directory::open(&directory)?, backing, &volume, format)?;
                now.check_whole(&files, snapshot.as_deref(), &stop)?;
                Ok((now, files))
            })
            .await?
        };
        if now != image {
            return Err(Fault::transient(code::VOLUME_IN_USE, format!("{volume} changed while it was opened")));
        }
        let size = export.clients().first().map(|it| it.export().size);
        let size = size.ok_or_else(|| Fault::permanent(code::INTERNAL, "an export without a connection"))?;
        if export.clients().iter().any(|it| it.export().size != size) {
            return Err(invalid(volume, "QEMU shows it in two sizes"));
        }
        let files = files.into_iter().zip(now.members.iter().map(|it| it.stamp)).collect();
        Ok(Reader { export, size, format: now.format(), files, volume: volume.into(), next: AtomicUsize::new(0) })
    }

    /// Size and allocation.
    pub(super) async fn measure(&self) -> Result<Measured, Fault> {
        let mut allocated = 0;
        let mut at = 0;
        while at < self.size {
            let bytes = (self.size - at).min(WINDOW);
            let extents = self.extents(at, bytes).await?;
            allocated += extents.iter().filter(|it| !it.zero).map(|it| it.bytes).sum::<u64>();
            at += bytes;
        }
        Ok(Measured { virtual_size: self.size, allocated, format: self.format })
    }

    async fn read_part(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        let clients = self.export.clients();
        let client = &clients[self.next.fetch_add(1, Relaxed) % clients.len()];
        client.read(offset, bytes).await.map_err(|error| self.export.fault(&error))
    }
}

/// Inspects the volume and describes it to QEMU; a snapshot by way of an overlay at `past`. Blocks.
fn describe(
    directory: &Directory,
    (backing, format): (Backing, Option<Format>),
    volume: &str,
    snapshot: Option<&str>,
    past: &Path,
) -> Result<(Image, Value), Fault> {
    let (image, _) = Image::inspect(directory, backing, volume, format)?;
    let Some(name) = snapshot else {
        let node = image.node(directory, None);
        return Ok((image, node));
    };
    let found = image.snapshot(name)?;
    let top = image.members.first().ok_or_else(|| Fault::permanent(code::INTERNAL, "an image without a file"))?;
    past::write_overlay(past, top, found)
        .map_err(|error| Fault::transient(code::VOLUME_READ_FAILED, format!("write the header of snapshot {name:?}: {error}")))?;
    let node = image.node(directory, Some(past));
    Ok((image, node))
}

#[async_trait]
impl BlockRead for Reader {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        // Clamped to the image, as a reader's ranges are: nothing is past its end.
        let end = offset.saturating_add(bytes).min(self.size);
        let client = &self.export.clients()[0];
        let runs = client.block_status(offset.min(end), end.saturating_sub(offset)).await;
        let runs = runs.map_err(|error| self.export.fault(&error))?;
        Ok(runs.into_iter().map(|it| Extent { offset: it.offset, bytes: it.bytes, zero: it.zero }).collect())
    }

    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        let most = self.export.clients()[0].export().block.maximum;
        if bytes <= most {
            return self.read_part(offset, bytes).await;
        }
        let mut whole = BytesMut::new();
        while whole.len() < bytes as usize {
            let left = bytes - whole.len() as u32;
            whole.extend_from_slice(&self.read_part(offset + whole.len() as u64, left.min(most)).await?);
        }
        Ok(whole.freeze())
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        let Reader { export, files, volume, .. } = *self;
        export.close().await?;
        super::blocking(move || match files.iter().all(|(file, then)| Stamp::of(file).is_ok_and(|now| now == *then)) {
            true => Ok(()),
            false => Err(Fault::transient(
                code::VOLUME_READ_FAILED,
                format!("{volume} was changed while it was read, by something that doesn't heed QEMU's locks"),
            )),
        })
        .await
    }
}
