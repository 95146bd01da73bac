//! Steps of `sweep-store`: packs without users, and what dead operations left behind.

use super::Step;
use crate::ids::{OperationId, PackId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lists what is in a store and belongs to no committed object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct List {
    /// The store.
    pub store: String,
    /// Only what the store wrote at least this many seconds ago, by the store's own clock.
    pub older_than_s: u64,
    /// How many of each kind to report at the most; later sweeps find the rest.
    pub limit: u32,
}

/// What `sweep.list` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// Packs of operations without a `ready`, and those that a committed operation's root doesn't name, with their
    /// lengths. Some are still used by other objects, some belong to operations under way: the engine decides.
    pub packs: Vec<super::object::Sealed>,
    /// Operations that have files below `objects/` but no `ready`, or an `aborted`.
    pub objects: Vec<OperationId>,
    /// What puts of any operation left that did not end, or are under way: the engine knows which.
    #[serde(default)]
    pub unfinished: Vec<Unfinished>,
    /// Keys that are nobody's of ours: reported, never touched (the first hundred).
    pub foreign: Vec<String>,
}

/// What a put that did not end left of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unfinished {
    /// The key that was meant.
    pub key: String,
    /// Bytes that are there.
    pub bytes: u64,
    /// Whose it is.
    pub operation: OperationId,
    /// The attempt of the copying step that writes it; `None` for what other steps write.
    pub attempt: Option<u32>,
}

impl Step for List {
    const NAME: &'static str = "sweep.list";
    type Input = ();
    type Output = Listed;
}

/// Removes packs, and all files below `objects/` of operations that are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delete {
    /// The store.
    pub store: String,
}

/// What the engine chose to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// Packs.
    pub packs: Vec<PackId>,
    /// Operations whose files below `objects/` go.
    pub objects: Vec<OperationId>,
    /// Keys of which nobody finishes what is there.
    #[serde(default)]
    pub unfinished: Vec<String>,
    /// Operations whose undo was given up before the grace: whether anything of theirs is left is looked for at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remains: Vec<OperationId>,
}

/// What `sweep.delete` removed: all that was chosen, confirmed absent by the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// Number of keys removed.
    pub keys: u64,
    /// Those of `remains` of which nothing is in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<OperationId>,
}

impl Step for Delete {
    const NAME: &'static str = "sweep.delete";
    type Input = Chosen;
    type Output = Deleted;
}
