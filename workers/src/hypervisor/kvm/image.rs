//! What a volume is made of: inspected by us first, then described to QEMU node by node, so that QEMU never
//! probes a format and never follows a name that a header gives it.

use super::{
    directory::Directory,
    format, name,
    qcow2::{self, Header, Snapshot, Unusable},
    whole,
};
use longshore_schema::{
    fault::{Fault, code, shown},
    steps::volume::Format,
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};
use tokio_util::sync::CancellationToken;

/// Most files in one chain.
const DEEPEST: usize = 64;
/// How a snapshot is asked for by its id.
const BY_ID: &str = "snapshot.id=";
/// How many ids a fault names.
const LISTED: usize = 10;
/// How much of a file's beginning is kept: all that a header, its extensions and its backing name may take.
pub(super) const START: usize = 64 << 10;

/// A volume and all that lies below it, from the top down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) members: Vec<Member>,
}

/// A file's inode, length, and time of the last change in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    pub(super) length: u64,
    modified: (i64, i64),
}

/// Whether volumes may lie on other files of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    /// Files of the same directory.
    Pool,
    /// None.
    Refused,
}

/// One file of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name in the pool's directory.
    pub(super) name: String,
    /// What would tell of a change that ignored QEMU's locks.
    pub(super) stamp: Stamp,
    /// Its first bytes.
    pub(super) start: Vec<u8>,
    /// `None`: a raw file.
    pub(super) header: Option<Header>,
}

impl Image {
    /// Reads the headers of a volume and of everything below it, and refuses what is unsafe. Blocks.
    /// Its files come open, from the top down. `declared` is the format of the top; see `format`.
    pub(super) fn inspect(
        directory: &Directory,
        backing: Backing,
        volume: &str,
        declared: Option<Format>,
    ) -> Result<(Image, Vec<File>), Fault> {
        let mut members: Vec<Member> = Vec::new();
        let mut files = Vec::new();
        let mut next = Some((volume.to_owned(), declared));
        while let Some((name, declared)) = next {
            if members.len() == DEEPEST {
                return Err(invalid(volume, format!("more than {DEEPEST} files lie below each other")));
            }
            let below = |fault: Fault| match members.is_empty() || fault.code != code::IMAGE_FORMAT_UNDECLARED {
                true => fault,
                false => fault.while_("the file above doesn't say its format, as `qemu-img rebase -u -b FILE -F FORMAT` does"),
            };
            let member = Member::inspect(directory, &name, |start| format::decide(&name, declared, start).map_err(below))?;
            let (member, file) = member.ok_or_else(|| match members.is_empty() {
                true => Fault::permanent(code::VOLUME_MISSING, format!("there is no volume {name} in the pool")),
                false => invalid(volume, format!("its backing file {name:?} is missing")),
            })?;
            next = member.below(directory)?;
            if let (Some((below, _)), Backing::Refused) = (&next, backing) {
                let why = format!("it lies on {below:?}, and the pool doesn't say `backing_files = true`");
                return Err(invalid(volume, why));
            }
            members.push(member);
            files.push(file);
        }
        Ok((Image { members }, files))
    }

    /// The format of the top.
    pub(super) fn format(&self) -> Format {
        match self.members.first().and_then(|it| it.header.as_ref()) {
            Some(_) => Format::Qcow2,
            None => Format::Raw,
        }
    }

    /// The internal snapshot of the top that has that name, or that id, written as QEMU does: `snapshot.id=2`. Names may
    /// stand for several, which would make it chance which is taken.
    pub(super) fn snapshot(&self, asked: &str) -> Result<&Snapshot, Fault> {
        let top = self.members.first();
        let volume = top.map_or("", |it| &it.name);
        let all = top.and_then(|it| it.header.as_ref()).map_or(&[][..], |it| &it.snapshots);
        let id = asked.strip_prefix(BY_ID);
        let found: Vec<&Snapshot> = all.iter().filter(|it| it.name == asked || Some(&*it.id) == id).collect();
        match found[..] {
            [] => Err(Fault::permanent(code::VOLUME_MISSING, format!("{volume} has no snapshot {asked:?}"))),
            [one] => Ok(one),
            [..] => {
                let ids: Vec<_> = found.iter().take(LISTED).map(|it| format!("{BY_ID}{}", shown(&it.id))).collect();
                let (count, ids) = (found.len(), ids.join(", "));
                let message = format!("{volume} has {count} snapshots that {asked:?} may mean; ask for one by its id: {ids}");
                Err(Fault::permanent(code::SNAPSHOT_AMBIGUOUS, message))
            }
        }
    }

    /// `image.truncated` unless all that is read of the volume, or of a snapshot of it, lies within its files. Blocks.
    pub(super) fn check_whole(&self, files: &[File], snapshot: Option<&str>, stop: &CancellationToken) -> Result<(), Fault> {
        let past = snapshot.map(|it| self.snapshot(it)).transpose()?.map(|it| it.map);
        for (depth, (member, file)) in self.members.iter().zip(files).enumerate() {
            let Some(header) = &member.header else { continue };
            let map = past.filter(|_| depth == 0).unwrap_or(header.map);
            let checked = whole::check(file, member.stamp.length, header.layout, map, stop);
            checked.map_err(|wrong| unusable(&member.name, wrong))?;
        }
        Ok(())
    }

    /// The volume as QEMU's block layer is to open it for reading. With `past`, a file that overlays the top's
    /// header (see `past`), it is the snapshot that that header describes.
    pub(super) fn node(&self, directory: &Directory, past: Option<&Path>) -> Value {
        let mut below = Value::Null;
        for (depth, member) in self.members.iter().enumerate().rev() {
            let file = json!({"driver": "file", "filename": directory.path_of(&member.name), "locking": "on"});
            below = match (&member.header, past.filter(|_| depth == 0)) {
                (Some(_), None) => json!({"driver": "qcow2", "file": file, "backing": below}),
                (Some(_), Some(overlay)) => {
                    let overlay = json!({"driver": "file", "filename": overlay});
                    let file = json!({"driver": "qcow2", "file": overlay, "backing": {"driver": "raw", "file": file}});
                    json!({"driver": "qcow2", "file": file, "backing": below})
                }
                (None, _) => json!({"driver": "raw", "file": file}),
            };
        }
        // QEMU's NBD server lets writers in beside it, and so would a raw file. Its `blkdebug` filter is the one
        // way to tell the block layer not to; what is below inherits it.
        json!({"driver": "blkdebug", "image": below, "unshare-child-perms": ["write", "resize"]})
    }
}

impl Stamp {
    /// As it is now.
    pub(super) fn of(file: &File) -> io::Result<Stamp> {
        let about = file.metadata()?;
        Ok(Stamp { inode: about.ino(), length: about.len(), modified: (about.mtime(), about.mtime_nsec()) })
    }
}

impl Member {
    /// `None` if there is no such file. `format` gets its first bytes.
    fn inspect(
        directory: &Directory,
        name: &str,
        format: impl FnOnce(&[u8]) -> Result<Format, Fault>,
    ) -> Result<Option<(Member, File)>, Fault> {
        let Some(file) = directory.read(name)? else { return Ok(None) };
        let failed = |error| unusable(name, Unusable::Failed(error));
        let stamp = Stamp::of(&file).map_err(failed)?;
        let length = stamp.length;
        let mut start = vec![0; START.min(usize::try_from(length).unwrap_or(START))];
        file.read_exact_at(&mut start, 0).map_err(failed)?;
        let header = match format(&start)? {
            Format::Raw => None,
            Format::Qcow2 => Some(qcow2::read(&file, &start, length).map_err(|wrong| unusable(name, wrong))?),
        };
        Ok(Some((Member { name: name.to_owned(), stamp, start, header }, file)))
    }

    /// The file below, and its format if the header knows it. Only a plain name in the same pool is taken.
    fn below(&self, directory: &Directory) -> Result<Option<(String, Option<Format>)>, Fault> {
        let Some(header) = &self.header else { return Ok(None) };
        let Some(written) = &header.backing else { return Ok(None) };
        let plain = backing_in(directory, written);
        let plain =
            plain.ok_or_else(|| invalid(&self.name, format!("its backing file {written:?} isn't a file of the same pool")))?;
        let declared = match header.backing_format.as_deref() {
            None => None,
            Some("raw") => Some(Format::Raw),
            Some("qcow2") => Some(Format::Qcow2),
            Some(other) => return Err(invalid(&plain, format!("it should be of format {other:?}, which isn't taken"))),
        };
        Ok(Some((plain, declared)))
    }
}

/// The plain name of a backing file in this directory; `None` if it is anywhere else, or no file's name at all.
/// Management software writes absolute names, so those of this very directory are taken.
fn backing_in(directory: &Directory, written: &str) -> Option<String> {
    let inside = directory.path_of("");
    let plain = match written.strip_prefix(inside.to_str()?) {
        Some(rest) => rest,
        None => written.strip_prefix("./").unwrap_or(written),
    };
    // A colon makes it a protocol (`nbd:`, `json:`), unless a slash comes first: none is left.
    (name::check_volume(plain).is_ok() && !(plain == written && plain.contains(':'))).then(|| plain.to_owned())
}

/// The volume of the pool that lies directly below a file, if the file is a qcow2 that can be read so far. Who asks
/// wants to leave alone whatever may be in use, so here bytes do count where nothing is declared.
pub(super) fn backing_of(directory: &Directory, file: &str) -> Option<String> {
    let looks = |start: &[u8]| if start.starts_with(&qcow2::MAGIC) { Format::Qcow2 } else { Format::Raw };
    let format = |start: &[u8]| Ok(Format::of_name(file).filter(|it| *it == Format::Raw).unwrap_or_else(|| looks(start)));
    let (member, _) = Member::inspect(directory, file, format).ok()??;
    backing_in(directory, member.header?.backing.as_ref()?)
}

fn unusable(name: &str, wrong: Unusable) -> Fault {
    match wrong {
        Unusable::Invalid(wrong) => invalid(name, wrong),
        Unusable::CutOff { length, end } => Fault::permanent(
            code::IMAGE_TRUNCATED,
            format!("{name} was cut short: the file has {length} bytes, and it refers to what goes on to byte {end} at least"),
        ),
        Unusable::Failed(error) => {
            Fault::transient(code::VOLUME_READ_FAILED, format!("read the header and tables of {name}: {error}"))
        }
    }
}

pub(super) fn invalid(volume: &str, what: impl std::fmt::Display) -> Fault {
    Fault::permanent(code::IMAGE_INVALID, format!("{volume}: {what}"))
}
