//! Steps of `sweep-store`: finds what belongs to no committed object, and removes what the engine chose of it.

use super::Context;
use crate::{
    datapath::{
        commit::{committed, remove_all},
        format::{aborted_key, objects_prefix, packs_prefix},
        manifest::load_root,
        unfinished, until_stopped,
    },
    lease::Lease,
    store::{Entry, PutMode, Store},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{
    fault::{Fault, code},
    ids::{OperationId, PackId},
    steps::{
        object::{Root, Sealed},
        sweep::{Chosen, Delete, Deleted, List, Listed},
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Keys removed at the same time.
const PARALLEL: usize = 8;
/// Foreign keys that are reported.
const FOREIGN: usize = 100;
/// Operations whose state is remembered while listing.
const REMEMBERED: usize = 4096;

/// `sweep.list`
pub async fn list(context: Context, step: List, _input: ()) -> Result<Listed, Fault> {
    let store = context.store(&step.store)?.store;
    until_stopped(&context.lease, async {
        let unfinished = store.unfinished("").await?.into_iter().filter_map(unfinished::of).take(step.limit as usize).collect();
        let now = match store_clock(&store, context.attempt.operation).await {
            Err(fault) if fault.code == code::STORE_FULL => {
                // Then its time can't be told, nor the age of what there is. What is due by the books makes room.
                tracing::warn!(store.name = step.store, %fault, "a full store is swept without being listed");
                return Ok(Listed { unfinished, ..Listed::default() });
            }
            now => now?,
        };
        let age = i64::try_from(step.older_than_s).unwrap_or(i64::MAX).saturating_mul(1000);
        let sweep = Sweep {
            store: store.clone(),
            lease: context.lease.clone(),
            not_after: now.saturating_sub(age),
            limit: step.limit as usize,
            states: HashMap::new(),
            named: None,
            foreign: vec![],
        };
        Ok(Listed { unfinished, ..sweep.list().await? })
    })
    .await
}

/// `sweep.delete`
pub async fn delete(context: Context, step: Delete, chosen: Chosen) -> Result<Deleted, Fault> {
    let store = context.store(&step.store)?.store;
    let lease = &context.lease;
    until_stopped(lease, async {
        let mut keys = 0;
        for operation in &chosen.objects {
            keys += remove_object(&store, lease, *operation).await?;
        }
        let packs = stream::iter(chosen.packs).map(|pack| remove_pack(&store, lease, pack));
        keys += packs.buffer_unordered(PARALLEL).try_fold(0, |count, removed| async move { Ok(count + removed) }).await?;
        for key in &chosen.unfinished {
            lease.check()?;
            store.discard_unfinished(key).await?;
            keys += 1;
        }
        let mut gone = vec![];
        for operation in chosen.remains {
            lease.check()?;
            if has_nothing_of(&store, operation).await? {
                gone.push(operation);
            }
        }
        Ok(Deleted { keys, gone })
    })
    .await
}

/// Whether nothing of an operation is in the store, not even what a put left that did not end.
async fn has_nothing_of(store: &Arc<dyn Store>, operation: OperationId) -> Result<bool, Fault> {
    for prefix in [objects_prefix(operation), packs_prefix(operation)] {
        let first = store.list(&prefix).next().await.transpose()?;
        if first.is_some() || !store.unfinished(&prefix).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn remove_object(store: &Arc<dyn Store>, lease: &Lease, operation: OperationId) -> Result<u64, Fault> {
    if committed(store, operation).await?.is_some() {
        let message = format!("object {operation} is committed: only its own destroy removes it");
        return Err(Fault::permanent(code::OPERATION_WRONG_STATE, message));
    }
    // `aborted` goes last: until then a `ready` that is still there doesn't count.
    let aborted = aborted_key(operation);
    let removed = remove_all(store, lease, &objects_prefix(operation), std::slice::from_ref(&aborted)).await?;
    Ok(removed + remove_all(store, lease, &aborted, &[]).await?)
}

async fn remove_pack(store: &Arc<dyn Store>, lease: &Lease, pack: PackId) -> Result<u64, Fault> {
    lease.check()?;
    let there = store.head(&pack.key()).await?.is_some();
    store.delete(&pack.key()).await?;
    Ok(u64::from(there))
}

/// The store's time, which only something that it writes now can tell.
async fn store_clock(store: &Arc<dyn Store>, operation: OperationId) -> Result<i64, Fault> {
    let key = format!("clock/{operation}");
    store.put(&key, Bytes::new(), PutMode::Replace).await?;
    let written = store.head(&key).await?;
    store.delete(&key).await?;
    let gone = || Fault::transient(code::STORE_MISBEHAVED, format!("{key} was put and isn't there"));
    written.map(|entry| entry.modified_ms).ok_or_else(gone)
}

/// What an operation has in the store.
#[derive(Clone)]
enum Found {
    Uncommitted,
    Committed(Root),
    /// Its `ready` can't be read: it is somebody's object still.
    Damaged,
}

struct Sweep {
    store: Arc<dyn Store>,
    lease: Arc<Lease>,
    not_after: i64,
    limit: usize,
    /// How far each operation got: asked once for each, as long as there aren't too many.
    states: HashMap<OperationId, Found>,
    /// The packs that the root of the last operation names whose packs were compared with it.
    named: Option<(OperationId, BTreeSet<PackId>)>,
    foreign: Vec<String>,
}

impl Sweep {
    async fn list(mut self) -> Result<Listed, Fault> {
        let store = self.store.clone();
        let mut objects = BTreeSet::new();
        let mut listed = store.list("objects/");
        while let Some(entry) = listed.next().await {
            self.lease.check()?;
            let entry = entry?;
            match operation_of(&entry.key) {
                None => self.report(entry),
                Some(operation) if objects.len() < self.limit && entry.modified_ms <= self.not_after => {
                    if !objects.contains(&operation) && matches!(self.found(operation).await?, Found::Uncommitted) {
                        objects.insert(operation);
                    }
                }
                Some(_) => (),
            }
        }
        let mut packs = vec![];
        let mut listed = store.list("packs/");
        while let Some(entry) = listed.next().await {
            self.lease.check()?;
            let entry = entry?;
            match PackId::of_key(&entry.key) {
                None => self.report(entry),
                Some(id) if packs.len() < self.limit && entry.modified_ms <= self.not_after => {
                    if self.is_stray(&id).await? {
                        packs.push(Sealed { id, bytes: entry.bytes });
                    }
                }
                Some(_) => (),
            }
        }
        Ok(Listed { packs, objects: objects.into_iter().collect(), unfinished: vec![], foreign: self.foreign })
    }

    /// Whether no committed object of the pack's operation names it. A worker that was cut off may have put one
    /// after the object was committed by somebody else.
    async fn is_stray(&mut self, id: &PackId) -> Result<bool, Fault> {
        let root = match self.found(id.operation).await? {
            Found::Uncommitted => return Ok(true),
            Found::Damaged => return Ok(false),
            Found::Committed(root) => root,
        };
        // The attempt that wrote the root names all of its own packs.
        if root.attempt == id.attempt {
            return Ok(false);
        }
        if self.named.as_ref().is_none_or(|(operation, _)| *operation != id.operation) {
            match load_root(&self.store, id.operation, &root).await {
                Ok(file) => self.named = Some((id.operation, file.packs.into_iter().map(|it| it.id).collect())),
                Err(fault) if fault.is_transient() => return Err(fault),
                // Damaged, or removed meanwhile: a later sweep decides.
                Err(_) => return Ok(false),
            }
        }
        Ok(self.named.as_ref().is_some_and(|(_, packs)| !packs.contains(id)))
    }

    async fn found(&mut self, operation: OperationId) -> Result<Found, Fault> {
        if let Some(known) = self.states.get(&operation) {
            return Ok(known.clone());
        }
        if self.states.len() >= REMEMBERED {
            self.states.clear();
        }
        let found = match committed(&self.store, operation).await {
            Ok(None) => Found::Uncommitted,
            Ok(Some(root)) => Found::Committed(root),
            Err(fault) if fault.code == code::OBJECT_CORRUPT => Found::Damaged,
            Err(fault) => return Err(fault),
        };
        self.states.insert(operation, found.clone());
        Ok(found)
    }

    fn report(&mut self, entry: Entry) {
        if self.foreign.len() < FOREIGN {
            self.foreign.push(entry.key);
        }
    }
}

/// The operation of a key below `objects/` that is one of ours.
fn operation_of(key: &str) -> Option<OperationId> {
    let (operation, name) = key.strip_prefix("objects/")?.split_once('/')?;
    let attempt =
        name.strip_suffix(".manifest").is_some_and(|attempt| attempt.parse::<u32>().is_ok_and(|n| n.to_string() == attempt));
    let ours = attempt || name == "ready" || name == "aborted";
    let parsed: OperationId = operation.parse().ok()?;
    (ours && parsed.to_string() == operation).then_some(parsed)
}
