//! Steps at a volume in a pool.

use super::Step;
use crate::ids::OperationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format of a volume that is a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's copy-on-write format, version 3.
    #[default]
    Qcow2,
    /// The bytes themselves, sparse where the file system can.
    Raw,
}

impl Format {
    /// What a file's name declares by its suffix: of what is backed up, and of what is made.
    pub fn of_name(name: &str) -> Option<Format> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "qcow2" => Some(Format::Qcow2),
            "raw" | "img" => Some(Format::Raw),
            _ => None,
        }
    }

    /// As in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

/// What `volume.measure` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// An upper bound on the bytes that are not known to be zero.
    pub allocated: u64,
    /// The format that it is read as, then and later.
    pub format: Format,
}

/// Tells a published volume from a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// What the pool calls it: an inode number for files.
    pub id: String,
    /// When it was made, in nanoseconds since 1970, where the pool knows. Whole microseconds: histories are canonical JSON,
    /// whose numbers have 53 bits (RFC 8785).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_ns: Option<i64>,
}

/// Looks up size and allocation; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// The pool's name.
    pub pool: String,
    /// The volume's name in the pool.
    pub volume: String,
    /// A named snapshot inside it; without, the volume as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The format that was declared; without, its name's suffix declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

impl Step for Measure {
    const NAME: &'static str = "volume.measure";
    type Input = ();
    type Output = Measured;
}

/// Writes an object's bytes into a new image under a temporary name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Write {
    /// The store that has the object.
    pub store: String,
    /// The object to read.
    pub object: OperationId,
    /// The object's root, as its `ready` names it.
    pub root: super::object::Root,
    /// The pool to write into.
    pub pool: String,
    /// The volume's final name.
    pub volume: String,
    /// The image's format.
    pub format: Format,
    /// The operation that makes it: temporary names carry it.
    pub operation: OperationId,
}

/// What `volume.write` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// Bytes of data written to the image.
    pub written: u64,
    /// Bytes read from the store.
    pub fetched: u64,
    /// Ranged reads that the store answered.
    pub requests: u64,
    /// The attempt whose draft is the finished one.
    pub attempt: u32,
}

impl Step for Write {
    const NAME: &'static str = "volume.write";
    type Input = ();
    type Output = Written;
}

/// Removes every draft of an operation: the undo of `volume.write`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Discard {
    /// The pool.
    pub pool: String,
    /// Whose drafts.
    pub operation: OperationId,
}

impl Step for Discard {
    const NAME: &'static str = "volume.discard";
    type Input = ();
    type Output = ();
}

/// Gives the finished draft its final name, and never replaces anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Publish {
    /// The pool.
    pub pool: String,
    /// The final name.
    pub volume: String,
    /// Whose draft.
    pub operation: OperationId,
}

impl Step for Publish {
    const NAME: &'static str = "volume.publish";
    type Input = Written;
    type Output = Identity;
}

/// Removes the published volume if it is still the operation's: the undo of `volume.publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remove {
    /// The pool.
    pub pool: String,
    /// The name.
    pub volume: String,
    /// Whose it must be.
    pub operation: OperationId,
}

impl Step for Remove {
    const NAME: &'static str = "volume.remove";
    /// What `volume.publish` reported, if it lived to report.
    type Input = Option<Identity>;
    type Output = ();
}
