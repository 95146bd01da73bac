//! What a worker's handlers do, step by step: each `advance` is one request to the store or the pool, as in
//! `longshore_workers::datapath` and `hypervisor`. A handler may be stopped between any two of them.

mod pool;

use super::{
    choices::{At, Choices},
    mutants::Bug,
    world::{Manifest, World},
};
use longshore_schema::{
    fault::{Fault, code},
    ids::{OperationId, PackId},
    step::{Step, StepMessage},
    steps::{
        object::{self, Base, Committed, Copied, Root, Sealed, Verified},
        sweep::{self, Chosen, Deleted, Listed},
        volume::{self, Format, Measured},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeSet;

/// Size of every volume.
pub(super) const SIZE: u64 = 1 << 20;
/// Extents of the store.
pub(super) const EXTENT: u32 = 64 << 10;
/// What a root takes.
pub(super) const ROOT_BYTES: u64 = 500;
/// What is booked for what an object has beside packs and root, and what it takes here.
pub(super) const MARKER_BYTES: u64 = 1024;
/// What is booked for a volume: `create_volume.rs`.
pub(super) const VOLUME_BOOKED: u64 = SIZE + SIZE / 2048 + (1 << 20);

/// One attempt's handler.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// What it was sent.
    pub(super) message: StepMessage,
    /// Packs that no answered renewal carried.
    pub(super) sealed: Vec<Sealed>,
    /// Its lease is over: what it still does is what a stalled host had begun.
    pub(super) late: bool,
    bug: Option<Bug>,
    done: u32,
    /// What a copy still puts, and what it wrote.
    left: u64,
    packs: BTreeSet<PackId>,
    kept: BTreeSet<PackId>,
    content: u64,
}

/// How far it is.
pub(super) type Advanced = Option<Result<Value, Fault>>;

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("what the engine sends can be read")
}

fn done(output: impl Serialize) -> Advanced {
    Some(Ok(serde_json::to_value(output).expect("outputs are JSON")))
}

fn failed(code: &str, why: impl Into<String>) -> Advanced {
    Some(Err(Fault::permanent(code, why)))
}

impl Job {
    /// Before its first request.
    pub(super) fn new(message: StepMessage, bug: Option<Bug>) -> Job {
        let (packs, kept) = (BTreeSet::new(), BTreeSet::new());
        Job { message, sealed: vec![], late: false, bug, done: 0, left: 0, packs, kept, content: 0 }
    }

    /// The outside name that it writes and that has no attempt in it.
    pub(super) fn writes(&self) -> Option<String> {
        let text = |name: &str| self.message.args[name].as_str().unwrap_or_default().to_owned();
        match self.message.step.as_str() {
            <volume::Publish as Step>::NAME => Some(format!("volume {}", text("volume"))),
            <object::Copy as Step>::NAME => Some(format!("anchor of {}", text("volume"))),
            // A list only looks: one that is cancelled may go on while the next one begins.
            <sweep::Delete as Step>::NAME => Some(format!("sweep of {}", text("store"))),
            _ => None,
        }
    }

    /// Whether its next request makes an object count.
    pub(super) fn is_about_to_count(&self) -> bool {
        self.message.step == <object::Commit as Step>::NAME && self.done == 2
    }

    /// What a sweep removes.
    pub(super) fn chosen(&self) -> Option<Chosen> {
        (self.message.step == <sweep::Delete as Step>::NAME).then(|| read(&self.message.input))
    }

    /// Does the next request.
    pub(super) fn advance(&mut self, world: &mut World, choices: &mut Choices) -> Advanced {
        self.done += 1;
        match self.message.step.as_str() {
            <volume::Measure as Step>::NAME => done(Measured { virtual_size: SIZE, allocated: SIZE, format: Format::Raw }),
            <object::Copy as Step>::NAME => self.copy(world, choices),
            <object::Commit as Step>::NAME => self.commit(world),
            <object::Probe as Step>::NAME => self.probe(world),
            <object::Unlink as Step>::NAME => self.unlink(world),
            <object::Discard as Step>::NAME => self.discard(world),
            <object::Transfer as Step>::NAME => self.transfer(world, choices),
            <object::Verify as Step>::NAME => self.verify(world, choices),
            <volume::Write as Step>::NAME => self.write(world),
            <volume::Publish as Step>::NAME => self.publish(world),
            <volume::Discard as Step>::NAME => self.discard_drafts(world),
            <volume::Remove as Step>::NAME => self.remove(world),
            <sweep::List as Step>::NAME => self.list(world),
            <sweep::Delete as Step>::NAME => self.delete(world),
            other => failed(code::STEP_UNKNOWN, other),
        }
    }

    fn copy(&mut self, world: &mut World, choices: &mut Choices) -> Advanced {
        let step: object::Copy = read(&self.message.args);
        if self.done == 1 {
            self.content = world.sources.get(&step.volume).copied().unwrap_or_default();
        }
        self.write_object(step.operation, step.base.as_ref(), world, choices)
    }

    fn transfer(&mut self, world: &mut World, choices: &mut Choices) -> Advanced {
        let step: object::Transfer = read(&self.message.args);
        if self.done == 1 {
            self.content = self.must_read(world, step.object, &step.root)?;
        }
        self.write_object(step.operation, step.base.as_ref(), world, choices)
    }

    fn write_object(
        &mut self,
        operation: OperationId,
        base: Option<&Base>,
        world: &mut World,
        choices: &mut Choices,
    ) -> Advanced {
        let attempt = self.message.attempt.n;
        if self.done == 1 {
            // What earlier attempts sealed is counted, whether the root will refer to it or not.
            let earlier: Vec<_> = world.packs.iter().filter(|(id, _)| id.operation == operation).collect();
            self.sealed = earlier.iter().map(|(id, (bytes, _))| Sealed { id: (*id).clone(), bytes: *bytes }).collect();
            self.packs = earlier.iter().map(|(id, _)| (*id).clone()).collect();
            if !self.late {
                // Whoever put them, they are told of from here on.
                world.late.packs.retain(|it| it.operation != operation);
            }
            self.packs.retain(|_| !choices.one_in(At::Work, 3));
            let new = choices.below(At::Work, 3);
            self.left = if base.is_none() && self.packs.is_empty() { new + 1 } else { new };
            if let Some(base) = base {
                match world.roots.get(&(base.object, base.root.attempt)) {
                    Some((manifest, _)) => self.kept = manifest.packs.clone(),
                    None if self.late => (),
                    None => world.wrong.push(format!("the base {} of {operation} is gone", base.object)),
                }
                self.kept.retain(|_| !choices.one_in(At::Work, 4));
            }
            return None;
        }
        if self.left > 0 {
            // A process that died may have begun this attempt.
            let own = world.packs.keys().filter(|it| it.operation == operation && it.attempt == attempt);
            let n = own.map(|it| it.n + 1).max().unwrap_or(0);
            let id = PackId { operation, attempt, n };
            let bytes = 1000 + choices.below(At::Work, 100_000);
            self.left -= 1;
            let put = world.put.entry(operation).or_default();
            if self.message.may_write.is_some_and(|limit| *put + bytes + ROOT_BYTES > limit) {
                return failed(code::RESERVATION_EXCEEDED, "the model wrote too much");
            }
            *put += bytes;
            world.put_pack(id.clone(), bytes, self.late);
            self.packs.insert(id.clone());
            self.sealed.push(Sealed { id, bytes });
            return None;
        }
        let root = Root { attempt, digest: format!("{operation}/{attempt}"), bytes: ROOT_BYTES };
        let manifest = Manifest { packs: self.packs.union(&self.kept).cloned().collect(), content: self.content };
        match world.roots.get(&(operation, attempt)) {
            None => {
                world.put_root(operation, attempt, manifest, self.late);
                return None;
            }
            // It was done before, and says the same; or the volume has changed since.
            Some((found, _))
                if found.content == manifest.content && found.packs.iter().all(|it| world.packs.contains_key(it)) =>
            {
                (self.packs, self.kept) = found.packs.iter().cloned().partition(|it| it.operation == operation);
            }
            Some(_) => return Some(Err(Fault::transient(code::STORE_MISBEHAVED, "the attempt was begun twice"))),
        }
        let of_base = base.and_then(|it| world.roots.get(&(it.object, it.root.attempt)));
        let of_base = of_base.map(|(manifest, _)| manifest.packs.clone()).unwrap_or_default();
        let unused = world.packs.keys().filter(|it| it.operation == operation && !self.packs.contains(it));
        done(Copied {
            root,
            digest: String::new(),
            virtual_size: SIZE,
            extent_size: EXTENT,
            read: 0,
            stored: 0,
            reused: 0,
            resumed: 0,
            repacked: 0,
            zeros: 0,
            read_back: 0,
            because: None,
            packs: self.sealed.clone(),
            unused: unused.cloned().collect(),
            dropped: of_base.difference(&self.kept).cloned().collect(),
            sparse: vec![],
            without_base: base.is_none(),
        })
    }

    fn commit(&mut self, world: &mut World) -> Advanced {
        let step: object::Commit = read(&self.message.args);
        let copied: Copied = read(&self.message.input);
        let committed = world.committed(step.operation).cloned();
        match self.done {
            1 => committed.and_then(|root| done(Committed { root, read_back: 0 })),
            2 if world.aborted.contains_key(&step.operation) => failed(code::OPERATION_WRONG_STATE, "it was aborted"),
            2 => world.read(step.operation, &copied.root).err().and_then(|missing| failed(code::OBJECT_MISSING, missing)),
            3 => {
                world.put_ready(step.operation, copied.root, self.late);
                None
            }
            _ => match committed {
                Some(root) => done(Committed { root, read_back: 1 }),
                None => failed(code::OPERATION_WRONG_STATE, "it was aborted, or removed"),
            },
        }
    }

    fn probe(&mut self, world: &mut World) -> Advanced {
        let step: object::Probe = read(&self.message.args);
        if self.done == 1 {
            return world.committed(step.operation).cloned().and_then(|root| done(Some(Committed { root, read_back: 0 })));
        }
        world.abort(step.operation);
        done(None::<Committed>)
    }

    fn unlink(&mut self, world: &mut World) -> Advanced {
        let step: object::Unlink = read(&self.message.args);
        if self.done == 1 && self.bug != Some(Bug::UnlinkForgets) {
            // A commit that comes late doesn't count.
            world.abort(step.operation);
            return None;
        }
        if world.ready.contains_key(&step.operation) {
            world.remove_ready(step.operation);
            return None;
        }
        self.remove_one_of(world, step.operation, self.bug != Some(Bug::UnlinkForgets))
    }

    fn discard(&mut self, world: &mut World) -> Advanced {
        let step: object::Discard = read(&self.message.args);
        match self.done {
            _ if self.bug == Some(Bug::KeepDiscarded) => done(()),
            1 if world.committed(step.operation).is_some() => failed(code::OPERATION_WRONG_STATE, "it is committed"),
            1 => None,
            2 => {
                world.abort(step.operation);
                None
            }
            _ => {
                if world.ready.contains_key(&step.operation) {
                    world.remove_ready(step.operation);
                    return None;
                }
                let pack = world.packs.keys().find(|it| it.operation == step.operation).cloned();
                match (self.remove_one_of(world, step.operation, true), pack) {
                    (None, _) => None,
                    (Some(_), Some(pack)) => {
                        world.remove_pack(&pack);
                        None
                    }
                    (Some(done), None) => Some(done),
                }
            }
        }
    }

    /// Removes one thing below `objects/` of an operation; done when there is none.
    fn remove_one_of(&self, world: &mut World, operation: OperationId, keep_aborted: bool) -> Advanced {
        let attempt = world.roots.keys().find(|(id, _)| *id == operation).map(|(_, attempt)| *attempt);
        match attempt {
            Some(attempt) => {
                world.remove_root(operation, attempt);
                None
            }
            None if !keep_aborted && world.aborted.remove(&operation).is_some() => None,
            None => done(()),
        }
    }

    fn verify(&mut self, world: &mut World, choices: &mut Choices) -> Advanced {
        let step: object::Verify = read(&self.message.args);
        self.must_read(world, step.object, &step.root)?;
        if choices.one_in(At::Work, 8) {
            return failed(code::OBJECT_CORRUPT, "the simulation says that a digest is another one");
        }
        done(Verified { digest: String::new(), virtual_size: SIZE, extents: 1, packs: 1, fetched: 1 })
    }

    /// What is held can be read: if not, that is wrong, whatever the step reports.
    fn must_read(&self, world: &mut World, object: OperationId, root: &Root) -> Option<u64> {
        match world.read(object, root) {
            Ok(content) => Some(content),
            Err(_) if self.late => None,
            Err(missing) => {
                world.wrong.push(format!("{} of {} lacks {missing}", self.message.step, self.message.attempt.operation));
                None
            }
        }
    }

    fn list(&mut self, world: &mut World) -> Advanced {
        let step: sweep::List = read(&self.message.args);
        let age = i64::try_from(step.older_than_s).unwrap_or(i64::MAX / 2_000_000) * 1_000_000;
        let old = |written: &i64| *written <= world.now - age;
        let roots = world.roots.iter().map(|((id, _), (_, at))| (*id, *at));
        let ready = world.ready.iter().map(|(id, (_, at))| (*id, *at));
        let aborted = world.aborted.iter().map(|(id, at)| (*id, *at));
        let objects: BTreeSet<OperationId> = roots.chain(ready).chain(aborted).filter(|(_, at)| old(at)).map(|it| it.0).collect();
        let objects = objects.into_iter().filter(|it| world.is_in(*it, &step.store));
        let packs = world.packs.iter().filter(|(id, (_, at))| old(at) && world.committed(id.operation).is_none());
        let packs = packs.filter(|(id, _)| world.is_in(id.operation, &step.store));
        done(Listed {
            packs: packs.map(|(id, (bytes, _))| Sealed { id: id.clone(), bytes: *bytes }).collect(),
            objects: objects.filter(|it| world.committed(*it).is_none()).collect(),
            unfinished: vec![],
            foreign: vec![],
        })
    }

    fn delete(&mut self, world: &mut World) -> Advanced {
        let chosen: Chosen = read(&self.message.input);
        if self.bug == Some(Bug::SweepRemovesNothing) {
            return done(Deleted { keys: 0, gone: vec![] });
        }
        for operation in &chosen.objects {
            if world.committed(*operation).is_some() {
                return failed(code::OPERATION_WRONG_STATE, "it is committed: only its own destroy removes it");
            }
            if world.ready.contains_key(operation) {
                world.remove_ready(*operation);
                return None;
            }
            match self.remove_one_of(world, *operation, false) {
                None => return None,
                Some(_) => continue,
            }
        }
        match chosen.packs.iter().find(|it| world.packs.contains_key(it)) {
            Some(pack) => {
                world.remove_pack(pack);
                None
            }
            None => {
                let gone = chosen.remains.into_iter().filter(|it| !world.has_something_of(*it)).collect();
                done(Deleted { keys: 0, gone })
            }
        }
    }
}
