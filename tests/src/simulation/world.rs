//! The world outside, as far as steps touch it: one store and one pool. Everything that happens to it is one
//! atomic change, and each is checked: nothing that somebody still needs goes away.

use longshore_schema::{
    ids::{OperationId, PackId},
    step::Attempt,
    steps::object::Root,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a root says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    /// All packs that it refers to.
    pub(super) packs: BTreeSet<PackId>,
    /// What the volume held.
    pub(super) content: u64,
}

/// A volume's file, draft or published.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    /// Tells it from all others.
    pub(super) inode: u64,
    /// What it holds; `None` while it is being written.
    pub(super) content: Option<u64>,
}

/// Where and since when something is in the store.
pub(super) type Written = i64;

/// Store and pool.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Microseconds.
    pub(super) now: i64,
    /// By id: bytes, and when.
    pub(super) packs: BTreeMap<PackId, (u64, Written)>,
    /// By operation and attempt.
    pub(super) roots: BTreeMap<(OperationId, u32), (Manifest, Written)>,
    /// `ready` of an operation.
    pub(super) ready: BTreeMap<OperationId, (Root, Written)>,
    /// `aborted` of an operation.
    pub(super) aborted: BTreeMap<OperationId, Written>,
    /// By operation and attempt.
    pub(super) drafts: BTreeMap<(OperationId, u32), File>,
    /// By name.
    pub(super) volumes: BTreeMap<String, File>,
    /// What the volumes that are backed up hold; it changes.
    pub(super) sources: BTreeMap<String, u64>,
    /// Objects that must stay readable, by what the engine committed last.
    pub(super) precious: BTreeMap<OperationId, Root>,
    /// Operations whose destruction was asked for, or that were abandoned.
    pub(super) given_up: BTreeSet<OperationId>,
    /// Operations that were Ready once.
    pub(super) were_ready: BTreeSet<OperationId>,
    /// Bytes put into packs by each operation.
    pub(super) put: BTreeMap<OperationId, u64>,
    /// Attempts of each operation in the order in which they first acted.
    pub(super) acted: BTreeMap<OperationId, Vec<Attempt>>,
    /// What must not have happened.
    pub(super) wrong: Vec<String>,
    inodes: u64,
}

impl World {
    /// The root that counts, if the object is committed.
    pub(super) fn committed(&self, operation: OperationId) -> Option<&Root> {
        let (root, _) = self.ready.get(&operation)?;
        (!self.aborted.contains_key(&operation)).then_some(root)
    }

    /// What an object holds; an error says what is missing of it.
    pub(super) fn read(&self, operation: OperationId, root: &Root) -> Result<u64, String> {
        let (manifest, _) =
            self.roots.get(&(operation, root.attempt)).ok_or_else(|| format!("root {} of {operation}", root.attempt))?;
        match manifest.packs.iter().find(|it| !self.packs.contains_key(it)) {
            Some(missing) => Err(format!("pack {missing} of {operation}")),
            None => Ok(manifest.content),
        }
    }

    /// A new file.
    pub(super) fn file(&mut self, content: Option<u64>) -> File {
        self.inodes += 1;
        File { inode: self.inodes, content }
    }

    /// Removes a pack.
    pub(super) fn remove_pack(&mut self, pack: &PackId) {
        self.packs.remove(pack);
        self.check_precious("a pack was removed");
    }

    /// Removes a root.
    pub(super) fn remove_root(&mut self, operation: OperationId, attempt: u32) {
        self.roots.remove(&(operation, attempt));
        self.check_precious("a root was removed");
    }

    /// Writes `aborted`.
    pub(super) fn abort(&mut self, operation: OperationId) {
        self.check_not_undone(operation);
        self.aborted.insert(operation, self.now);
        self.check_precious("an aborted was written");
    }

    /// An object that counts goes only if that was asked for.
    fn check_not_undone(&mut self, operation: OperationId) {
        let counted = self.committed(operation).is_some();
        if counted && !self.were_ready.contains(&operation) && !self.given_up.contains(&operation) {
            self.wrong.push(format!("the committed object {operation} was undone"));
        }
    }

    /// Removes `ready`.
    pub(super) fn remove_ready(&mut self, operation: OperationId) {
        self.check_not_undone(operation);
        self.ready.remove(&operation);
        self.check_precious("a ready was removed");
    }

    /// Every object that must be readable is.
    pub(super) fn check_precious(&mut self, after: &str) {
        for (operation, root) in &self.precious {
            if self.committed(*operation) != Some(root) {
                self.wrong.push(format!("{operation} is Ready and not committed: {after}"));
            } else if let Err(missing) = self.read(*operation, root) {
                self.wrong.push(format!("{operation} is Ready and lacks {missing}: {after}"));
            }
        }
    }
}
