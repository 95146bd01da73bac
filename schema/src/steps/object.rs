//! Steps at an object in a store. The format is `docs/store-format.md`.

use super::{Step, volume::Measured};
use crate::{
    ids::{OperationId, PackId},
    time::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names a manifest root and its bytes: `objects/{operation}/{attempt}.manifest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Root {
    /// The attempt of the copy step that wrote it.
    pub attempt: u32,
    /// BLAKE3 of the whole file, 64 lowercase hex digits.
    pub digest: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A committed object in the same store with the same extent size, whose entries may be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Base {
    /// The object.
    pub object: OperationId,
    /// Its root.
    pub root: Root,
    /// Packs of which so little is used that what the new object needs of them is stored again, so that they can go
    /// once the older objects have gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<PackId>,
}

/// A pack that is sealed and in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// Which.
    pub id: PackId,
    /// Its length in the store, in bytes.
    pub bytes: u64,
}

/// Reads a volume and puts what the base doesn't have into packs, then writes the manifest's root. Nothing
/// reads the object until `object.commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copy {
    /// The pool to read from.
    pub pool: String,
    /// The volume.
    pub volume: String,
    /// A named snapshot inside it; without, the volume as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The store to write to.
    pub store: String,
    /// The object to make.
    pub operation: OperationId,
    /// What it may take over from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Recorded in the root.
    pub about: About,
}

/// What a root says about the object, for people and for `rescan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// The operation's kind.
    pub kind: String,
    /// Whose.
    pub tenant: String,
    /// The zone it was made in.
    pub zone: String,
    /// Its name, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `pool/volume` or `pool/volume@snapshot`.
    pub source: String,
    /// When the operation was accepted.
    pub created: Timestamp,
    /// The object that it is a copy of, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<Origin>,
}

/// An object of which another one, in another store, is a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The object.
    pub object: OperationId,
    /// Where it was when it was copied.
    pub store: String,
    /// Its digest. The copy has the same one if its extents have the same size.
    pub digest: String,
    /// Bytes of its extents.
    pub extent_size: u32,
}

/// What `object.copy` or `object.transfer` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// The root that it wrote.
    pub root: Root,
    /// The object's digest: over size, extent size and index page digests; equal contents have equal digests.
    pub digest: String,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes of an extent.
    pub extent_size: u32,
    /// Bytes read by this attempt from the volume, or of the object that is copied.
    pub read: u64,
    /// Bytes put into the store by this attempt, roots and pages included.
    pub stored: u64,
    /// Bytes of extents taken over from the base without storing them.
    pub reused: u64,
    /// Bytes of extents taken over from packs that an earlier attempt sealed.
    pub resumed: u64,
    /// Bytes of extents that the base has, and that were stored again out of its sparse packs.
    #[serde(default)]
    pub repacked: u64,
    /// Bytes of extents that are zeros.
    pub zeros: u64,
    /// Bytes of packs that were read again and checked, since the store doesn't check what it is given.
    #[serde(default)]
    pub read_back: u64,
    /// Why it was not an incremental, or what else the history should say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Packs of this operation that the root refers to and that no renewal carried yet.
    pub packs: Vec<Sealed>,
    /// Packs of this operation (earlier attempts') that the root doesn't refer to.
    pub unused: Vec<PackId>,
    /// Packs of the base that the root doesn't refer to any more: the object takes over all others' uses.
    pub dropped: Vec<PackId>,
    /// Packs of which the root refers to less than a quarter of the bytes: some of them, if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<PackId>,
    /// Nothing of a base is used, even if one was given: no use is taken over.
    #[serde(default)]
    pub without_base: bool,
}

impl Step for Copy {
    const NAME: &'static str = "object.copy";
    type Input = Measured;
    type Output = Copied;
}

/// Reads an object and makes it again in another store, of which it needs nothing afterwards: what the base has is taken
/// over, what an earlier attempt sealed isn't sent again, the rest is read with every digest checked. Where extents have the
/// same size their frames are passed on as they are, else the bytes are cut anew. Nothing reads it until `object.commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transfer {
    /// The store that has the object.
    pub from: String,
    /// The object to read.
    pub object: OperationId,
    /// Its root, as its `ready` names it.
    pub root: Root,
    /// The store to write to.
    pub store: String,
    /// The object to make.
    pub operation: OperationId,
    /// What it may take over from, in the store to write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Recorded in the root.
    pub about: About,
}

impl Step for Transfer {
    const NAME: &'static str = "object.transfer";
    type Input = ();
    type Output = Copied;
}

/// Steps that write an object's packs and root. Their argument `base` is what they may take over from, and their output
/// is `Copied`.
pub const WRITERS: &[&str] = &[<Copy as Step>::NAME, <Transfer as Step>::NAME];

/// Undo of a step that writes an object, of one that never was Ready: writes `aborted`, then removes every pack and
/// root of the operation's, and says which packs there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Discard {
    /// The store.
    pub store: String,
    /// Whose.
    pub operation: OperationId,
}

impl Step for Discard {
    const NAME: &'static str = "object.discard";
    type Input = ();
    type Output = ();
}

/// Reads back root, pages, and length and footer of every pack that this operation wrote; then writes `ready`.
/// A repeated one first looks for `ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Commit {
    /// The store.
    pub store: String,
    /// The object.
    pub operation: OperationId,
}

/// What `ready` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Committed {
    /// The root that counts.
    pub root: Root,
    /// Bytes read back.
    #[serde(default)]
    pub read_back: u64,
}

impl Step for Commit {
    const NAME: &'static str = "object.commit";
    type Input = Copied;
    type Output = Committed;
}

/// The probe of `object.commit`: writes `aborted` unless `ready` is there, and says which it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The store.
    pub store: String,
    /// The object.
    pub operation: OperationId,
}

impl Step for Probe {
    const NAME: &'static str = "object.probe";
    type Input = ();
    /// What `ready` says, or `None`: it isn't there, and whatever is written later is ignored.
    type Output = Option<Committed>;
}

/// Undo of `object.commit`: writes `aborted`, removes `ready`, then the roots. The packs are the engine's to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unlink {
    /// The store.
    pub store: String,
    /// The object.
    pub operation: OperationId,
}

impl Step for Unlink {
    const NAME: &'static str = "object.unlink";
    type Input = ();
    type Output = ();
}

/// Reads every byte of an object back and checks every digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verify {
    /// The store.
    pub store: String,
    /// The object to read.
    pub object: OperationId,
    /// Its root.
    pub root: Root,
}

/// What `object.verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// The object's digest.
    pub digest: String,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Extents checked, zeros not counted.
    pub extents: u64,
    /// Packs read.
    pub packs: u64,
    /// Bytes read from the store.
    pub fetched: u64,
}

impl Step for Verify {
    const NAME: &'static str = "object.verify";
    type Input = ();
    type Output = Verified;
}
