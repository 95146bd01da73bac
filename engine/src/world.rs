//! What a plan is made from: a reading of everything that a command touches, taken without locks. The guarded
//! updates of the journal decide whether it still holds.

use longshore_schema::{
    ids::{OperationId, PackId},
    site::{PathPolicy, Place},
    tables::operation,
    time::Timestamp,
    wire::{Announce, WorkerKind},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// Something that a command touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// A zone, by name.
    Zone(String),
    /// A pool, store or staging area, by name.
    Place(String),
    /// An object that may be a copy's base, by its operation's id: its sparse packs are read too.
    Base(OperationId),
    /// An object, by its operation's id.
    Object(OperationId),
    /// The latest Ready object in `store` that was made from, or into, the volume `subject`.
    Lineage {
        /// `pool/volume`.
        subject: String,
        /// The store.
        store: String,
        /// Whose.
        tenant: String,
    },
    /// An object, and the latest Ready one in `store` of the same volume: a backup of it, or a copy of one.
    Kin {
        /// The object.
        object: OperationId,
        /// The store.
        store: String,
        /// Whose.
        tenant: String,
    },
}

/// What every plan may look at: read once for many.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// By name.
    pub zones: Arc<BTreeMap<String, Zone>>,
    /// All that announced themselves within a day, in the order of their ids.
    pub workers: Arc<Vec<Worker>>,
    /// Objects of volumes that became Ready in this transaction: the database doesn't know it yet.
    pub fresh: Arc<Vec<operation::Model>>,
}

/// A reading of what a command touches.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// By name.
    pub zones: Arc<BTreeMap<String, Zone>>,
    /// By name.
    pub places: BTreeMap<String, Seen>,
    /// By id.
    pub objects: BTreeMap<OperationId, Object>,
    /// For `Touch::Lineage` and `Touch::Kin`.
    pub lineage: Option<Object>,
    /// All that announced themselves within a day, in the order of their ids.
    pub workers: Arc<Vec<Worker>>,
}

/// A zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Its region.
    pub region: String,
    /// Its policy.
    pub path: PathPolicy,
}

/// A place as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its entry of the site file.
    pub place: Place,
    /// Stores: bytes of an extent.
    pub extent_size: u32,
}

/// An object as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its operation.
    pub id: OperationId,
    /// The operation's kind.
    pub kind: String,
    /// Whose.
    pub tenant: String,
    /// Its zone.
    pub zone: String,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// The volume that it was made from, or into: `pool/volume`.
    pub subject: Option<String>,
    /// The store that has it.
    pub store: Option<String>,
    /// Whether it is Ready and not to be destroyed.
    pub usable: bool,
    /// Its state, for messages.
    pub state: String,
    /// What was made.
    pub output: Value,
    /// For `Touch::Base`, `Touch::Lineage` and `Touch::Kin`: packs of its that every object refers to only a little of.
    pub sparse: Vec<PackId>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// As it announced itself.
    pub announced: Announce,
    /// Whether it was heard within the last half minute and isn't leaving.
    pub live: bool,
}

/// Who asks, and what the intake knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The id that the operation will have.
    pub operation: OperationId,
    /// Whose it will be.
    pub tenant: String,
    /// When it was asked, by the database's clock.
    pub at: Timestamp,
}

impl World {
    /// Workers of a kind in a zone, live ones first.
    pub fn workers_of(&self, zone: &str, kind: WorkerKind) -> Vec<&Worker> {
        let mut found: Vec<_> = self.workers.iter().filter(|it| it.announced.zone == zone && it.announced.kind == kind).collect();
        found.sort_by_key(|it| !it.live);
        found
    }

    /// Zones from which a store can be expected to be reached: its own, or all of its region.
    pub fn zones_of(&self, place: &Place) -> Vec<&str> {
        let (zone, region) = match place {
            Place::Pool(pool) => (Some(&pool.zone), None),
            Place::Store { store, .. } => (store.zone.as_ref(), store.region.as_ref()),
        };
        let near = self.zones.iter().filter(|(name, it)| zone == Some(name) || region == Some(&it.region));
        near.map(|(name, _)| name.as_str()).collect()
    }
}
