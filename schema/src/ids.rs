//! Identifiers. Every id is chosen by the engine before anything is done with it, so that names can be
//! derived from it and a step that is done twice leaves what once leaves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Names one operation and the object that it makes: a UUIDv7, so ids sort by the time of their making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OperationId(pub Uuid);

/// Names one pack in a store: `packs/{operation}/{attempt}-{n}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Debug)]
pub struct PackId {
    /// The operation that wrote it.
    pub operation: OperationId,
    /// The attempt of the copy step that wrote it, from 1.
    pub attempt: u32,
    /// Its number within the attempt, from 0.
    pub n: u32,
}

impl OperationId {
    /// A new id, later than all that this process made before.
    pub fn new() -> OperationId {
        OperationId(Uuid::now_v7())
    }
}

impl Default for OperationId {
    fn default() -> OperationId {
        OperationId::new()
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<OperationId, uuid::Error> {
        Uuid::parse_str(text).map(OperationId)
    }
}

impl PackId {
    /// Its key below the store's prefix.
    pub fn key(&self) -> String {
        format!("packs/{}/{}-{}", self.operation, self.attempt, self.n)
    }

    /// The pack that a key names; `None` if the key names no pack.
    pub fn of_key(key: &str) -> Option<PackId> {
        let (operation, name) = key.strip_prefix("packs/")?.split_once('/')?;
        let (attempt, n) = name.split_once('-')?;
        let id = PackId { operation: operation.parse().ok()?, attempt: attempt.parse().ok()?, n: n.parse().ok()? };
        (id.key() == key).then_some(id)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.operation, self.attempt, self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_found_again_by_its_key_and_by_no_other() {
        let id = PackId { operation: OperationId::new(), attempt: 3, n: 17 };
        assert_eq!(PackId::of_key(&id.key()), Some(id.clone()));
        for wrong in ["", "packs/x/1-1", &format!("packs/{}/1", id.operation), &format!("packs/{}/01-1", id.operation)] {
            assert_eq!(PackId::of_key(wrong), None, "{wrong}");
        }
    }
}
