//! The world outside, as far as steps touch it: two stores and one pool. Everything that happens to it is one
//! atomic change, and each is checked: nothing that somebody still needs goes away.

use super::job::{MARKER_BYTES, ROOT_BYTES, SIZE};
use longshore_schema::{
    ids::{OperationId, PackId},
    step::Attempt,
    steps::object::Root,
};
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

/// A volume's contents are so many numbers, from its own number times this on: none is another volume's.
pub(super) const CONTENTS: u64 = 1000;

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
    /// Who makes it.
    pub(super) owner: OperationId,
    /// What it holds; `None` while it is being written.
    pub(super) content: Option<u64>,
}

/// Where and since when something is in the store.
pub(super) type Written = i64;

/// A volume that everybody was told to be there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Its name.
    pub(super) volume: String,
    /// Its file.
    pub(super) inode: u64,
}

/// What was written by those who had lost their lease: nobody knows of it, and nothing is booked for it.
#[derive(Debug, Default)]
pub(super) struct Late {
    pub(super) packs: BTreeSet<PackId>,
    pub(super) roots: BTreeSet<(OperationId, u32)>,
    pub(super) ready: BTreeSet<OperationId>,
    /// Inodes.
    pub(super) files: BTreeSet<u64>,
}

/// Stores and pool. What is in a store is known by its operation, and each operation writes into one store.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Microseconds.
    pub(super) now: i64,
    /// Until then no request to a store succeeds, microseconds.
    pub(super) away_until: i64,
    /// The store of each operation that makes an object.
    pub(super) stores: BTreeMap<OperationId, String>,
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
    /// Volumes that must stay, by the operations that made them.
    pub(super) kept: BTreeMap<OperationId, Kept>,
    /// Operations whose destruction was asked for, or that were abandoned.
    pub(super) given_up: BTreeSet<OperationId>,
    /// Those that were abandoned.
    pub(super) abandoned: BTreeSet<OperationId>,
    /// What came late.
    pub(super) late: Late,
    /// Operations that were Ready once.
    pub(super) were_ready: BTreeSet<OperationId>,
    /// When packs of objects that had to be readable were needed last, by objects that needn't be any more.
    pub(super) needed_until: BTreeMap<PackId, i64>,
    /// Bytes put into packs by each operation.
    pub(super) put: BTreeMap<OperationId, u64>,
    /// Attempts of each operation in the order in which they first acted.
    pub(super) acted: BTreeMap<OperationId, Vec<Attempt>>,
    /// What must not have happened.
    pub(super) wrong: Vec<String>,
    inodes: u64,
}

impl World {
    /// Whether an operation's object is in that store, or would be.
    pub(super) fn is_in(&self, id: OperationId, store: &str) -> bool {
        self.stores.get(&id).is_some_and(|it| it == store)
    }

    /// Whether anything of an operation is in its store.
    pub(super) fn has_something_of(&self, id: OperationId) -> bool {
        let has_object = self.ready.contains_key(&id) || self.aborted.contains_key(&id);
        has_object || self.roots.keys().any(|it| it.0 == id) || self.packs.keys().any(|it| it.operation == id)
    }

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

    /// Whether what an operation has in the store may stay although nobody needs it: its undo was given up. A sweep removes it,
    /// unless it is committed.
    pub(super) fn may_stay(&self, operation: OperationId, swept: bool) -> bool {
        self.abandoned.contains(&operation) && (!swept || self.committed(operation).is_some())
    }

    /// Whether sweeps remove all that an abandoned operation has in the store: it doesn't count, and nobody took over packs of it.
    pub(super) fn goes_at_last(&self, operation: OperationId) -> bool {
        self.committed(operation).is_none() && self.needed().iter().all(|it| it.operation != operation)
    }

    /// It needn't stay any more.
    pub(super) fn gives_up(&mut self, operation: OperationId) {
        self.given_up.insert(operation);
        self.lets_go(operation);
        self.kept.remove(&operation);
    }

    /// Its object needn't be readable any more. Whether it had to be.
    pub(super) fn lets_go(&mut self, operation: OperationId) -> bool {
        let Some(root) = self.precious.remove(&operation) else { return false };
        if let Some((manifest, _)) = self.roots.get(&(operation, root.attempt)) {
            self.needed_until.extend(manifest.packs.iter().map(|it| (it.clone(), self.now)));
        }
        true
    }

    /// Packs of objects that must be readable.
    pub(super) fn needed(&self) -> BTreeSet<PackId> {
        let roots = self.precious.iter().filter_map(|(id, root)| self.roots.get(&(*id, root.attempt)));
        roots.flat_map(|(manifest, _)| manifest.packs.iter().cloned()).collect()
    }

    /// Its volume needn't stay any more. Whether it had to.
    pub(super) fn loses(&mut self, operation: OperationId) -> bool {
        self.kept.remove(&operation).is_some()
    }

    /// A new draft, in place of those of earlier attempts. `late`: its writer has no lease any more.
    pub(super) fn put_draft(&mut self, operation: OperationId, attempt: u32, late: bool) {
        self.drafts.retain(|(id, n), _| *id != operation || *n >= attempt);
        self.inodes += 1;
        let file = File { inode: self.inodes, owner: operation, content: None };
        if late {
            self.late.files.insert(file.inode);
        }
        self.drafts.insert((operation, attempt), file);
    }

    /// A draft gets its name.
    pub(super) fn link(&mut self, volume: String, file: File, late: bool) {
        if late {
            self.late.files.insert(file.inode);
        }
        self.volumes.insert(volume, file);
        self.check_kept("a volume was published");
    }

    /// Removes a volume.
    pub(super) fn remove_volume(&mut self, volume: &str) {
        self.volumes.remove(volume);
        self.check_kept("a volume was removed");
    }

    /// A pack is put.
    pub(super) fn put_pack(&mut self, id: PackId, bytes: u64, late: bool) {
        if late {
            self.late.packs.insert(id.clone());
        }
        self.packs.insert(id, (bytes, self.now));
    }

    /// A root is put.
    pub(super) fn put_root(&mut self, operation: OperationId, attempt: u32, manifest: Manifest, late: bool) {
        if late {
            self.late.roots.insert((operation, attempt));
        }
        self.roots.insert((operation, attempt), (manifest, self.now));
    }

    /// `ready` is put, if there is none.
    pub(super) fn put_ready(&mut self, operation: OperationId, root: Root, late: bool) {
        if let Entry::Vacant(vacant) = self.ready.entry(operation) {
            vacant.insert((root, self.now));
            if late {
                self.late.ready.insert(operation);
            }
        }
    }

    /// What each operation has in a place, in bytes, but for what came late. One root of each counts: those of attempts that came
    /// to nothing are small, and go with the object.
    pub(super) fn takes(&self) -> BTreeMap<OperationId, u64> {
        let mut takes = BTreeMap::<OperationId, u64>::new();
        for (id, (bytes, _)) in self.packs.iter().filter(|(id, _)| !self.late.packs.contains(id)) {
            *takes.entry(id.operation).or_default() += bytes;
        }
        let with_root: BTreeSet<_> = self.roots.keys().filter(|it| !self.late.roots.contains(it)).map(|it| it.0).collect();
        for id in with_root {
            *takes.entry(id).or_default() += ROOT_BYTES;
        }
        for id in self.ready.keys().filter(|it| !self.late.ready.contains(it)) {
            *takes.entry(*id).or_default() += MARKER_BYTES;
        }
        let files = self.drafts.values().chain(self.volumes.values());
        let files: BTreeMap<u64, OperationId> = files.map(|it| (it.inode, it.owner)).collect();
        for (_, id) in files.iter().filter(|(inode, _)| !self.late.files.contains(inode)) {
            *takes.entry(*id).or_default() += SIZE;
        }
        takes
    }

    /// Removes a pack.
    pub(super) fn remove_pack(&mut self, pack: &PackId) {
        self.packs.remove(pack);
        self.late.packs.remove(pack);
        self.check_precious("a pack was removed");
    }

    /// Removes a root.
    pub(super) fn remove_root(&mut self, operation: OperationId, attempt: u32) {
        self.roots.remove(&(operation, attempt));
        self.late.roots.remove(&(operation, attempt));
        self.check_precious("a root was removed");
    }

    /// Writes `aborted`.
    pub(super) fn abort(&mut self, operation: OperationId) {
        self.check_not_undone(operation);
        self.aborted.insert(operation, self.now);
        self.check_precious("an aborted was written");
    }

    /// An object that counts goes only if that was asked for. One that a late commit made to count may go: a probe that came
    /// between said that there is none.
    fn check_not_undone(&mut self, operation: OperationId) {
        let counted = self.committed(operation).is_some() && !self.late.ready.contains(&operation);
        if counted && !self.were_ready.contains(&operation) && !self.given_up.contains(&operation) {
            self.wrong.push(format!("the committed object {operation} was undone"));
        }
    }

    /// Removes `ready`.
    pub(super) fn remove_ready(&mut self, operation: OperationId) {
        self.check_not_undone(operation);
        self.ready.remove(&operation);
        self.late.ready.remove(&operation);
        self.check_precious("a ready was removed");
    }

    /// Every volume that must stay is there, and is the one that it was.
    pub(super) fn check_kept(&mut self, after: &str) {
        for (operation, kept) in &self.kept {
            if self.volumes.get(&kept.volume).is_none_or(|it| it.inode != kept.inode) {
                self.wrong.push(format!("volume {} of {operation} is Ready and not there: {after}", kept.volume));
            }
        }
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
