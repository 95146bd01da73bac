//! The short steps around an object: `ready` and `aborted`, and what is removed. `ready` is written last and
//! removed first; who sees `aborted` ignores the object, whatever else is there. What takes back ends on a full store, too.

use super::{
    Work,
    format::{
        aborted_key, objects_prefix, packs_prefix,
        page::PageRef,
        ready::{MAX_MARKER, decode_ready, encode_aborted, encode_ready},
        ready_key,
        root::RootFile,
        shape::FANOUT,
    },
    manifest::{Cursor, load_root_with_fanout, page_place},
    resume::{check_length, read_footer},
    unfinished,
};
use crate::{
    lease::Lease,
    store::{PutMode, Store},
};
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::object::{Committed, Root},
};
use std::sync::Arc;

/// Footers read, and keys removed, at the same time.
const PARALLEL: usize = 8;

/// Makes the object count, after reading back what makes it up.
pub async fn commit(work: &Work, root: &Root) -> Result<Committed, Fault> {
    commit_with_fanout(work, root, FANOUT).await
}

/// The same of an object whose pages have so many entries: `Shape::with_fanout`.
pub async fn commit_with_fanout(work: &Work, root: &Root, fanout: u64) -> Result<Committed, Fault> {
    unfinished::remove_all(work).await?;
    if let Some(root) = committed(&work.store, work.operation).await? {
        return Ok(Committed { root, read_back: 0 });
    }
    refuse_aborted(work).await?;
    let read_back = read_back(work, root, fanout).await?;
    let body = encode_ready(root).map_err(|broken| Fault::permanent(code::INTERNAL, format!("write ready: {broken}")))?;
    work.lease.check()?;
    // Whether it was written now or existed: what it says now is what counts.
    work.store.put(&ready_key(work.operation), body.into(), PutMode::Create).await?;
    refuse_aborted(work).await?;
    match committed(&work.store, work.operation).await? {
        Some(root) => Ok(Committed { root, read_back }),
        None => Err(Fault::transient(code::STORE_MISBEHAVED, format!("{} was put and isn't there", ready_key(work.operation)))),
    }
}

/// The root that `ready` names; `None` without `ready`, or with `aborted`.
pub async fn committed(store: &Arc<dyn Store>, operation: OperationId) -> Result<Option<Root>, Fault> {
    let key = ready_key(operation);
    let Some(entry) = store.head(&key).await? else { return Ok(None) };
    if store.head(&aborted_key(operation)).await?.is_some() {
        return Ok(None);
    }
    let bytes = store.get(&key, 0..entry.bytes.min(MAX_MARKER)).await?;
    decode_ready(&bytes).map(Some).map_err(|broken| broken.at(key))
}

/// Whether the commit took effect; if it didn't, it never will.
pub async fn probe(work: &Work) -> Result<Option<Committed>, Fault> {
    if let Some(root) = committed(&work.store, work.operation).await? {
        return Ok(Some(Committed { root, read_back: 0 }));
    }
    abort(work).await?;
    Ok(None)
}

/// Removes what makes the object count, then its roots. The word that it never counts again stays until a sweep:
/// a commit of a host that stood still may write `ready` at any time.
pub async fn unlink(work: &Work) -> Result<(), Fault> {
    unfinished::remove_all(work).await?;
    abort(work).await?;
    work.lease.check()?;
    work.store.delete(&ready_key(work.operation)).await?;
    remove_all(&work.store, &work.lease, &objects_prefix(work.operation), &[aborted_key(work.operation)]).await?;
    Ok(())
}

/// Removes everything of an object that never was Ready, except the word that it never will be.
pub async fn discard(work: &Work) -> Result<(), Fault> {
    if committed(&work.store, work.operation).await?.is_some() {
        let message = format!("object {} is committed: its packs may be others' too", work.operation);
        return Err(Fault::permanent(code::OPERATION_WRONG_STATE, message));
    }
    unfinished::remove_all(work).await?;
    let word = abort(work).await;
    let full = is_full(&word);
    if !full {
        word?;
    }
    remove_all(&work.store, &work.lease, &objects_prefix(work.operation), &[aborted_key(work.operation)]).await?;
    remove_all(&work.store, &work.lease, &packs_prefix(work.operation), &[]).await?;
    if full {
        let word = abort(work).await;
        if !is_full(&word) {
            return word;
        }
        // No commit can be on its way: its own undo, which comes before this one, doesn't end without the word.
        tracing::warn!(operation.id = %work.operation, "the store is too full for the word that an object was aborted");
    }
    Ok(())
}

/// Removes every key with the prefix but `kept`, several at a time. How many there were.
pub async fn remove_all(store: &Arc<dyn Store>, lease: &Lease, prefix: &str, kept: &[String]) -> Result<u64, Fault> {
    let listed = store.list(prefix).try_filter(|entry| futures::future::ready(!kept.contains(&entry.key)));
    // Removing while listing may hide keys from the rest of the list in some stores, so the names come first.
    let keys: Vec<String> = listed.map_ok(|entry| entry.key).try_collect().await?;
    let removed = stream::iter(keys).map(|key| async move {
        lease.check()?;
        store.delete(&key).await
    });
    removed.buffer_unordered(PARALLEL).try_fold(0, |count, ()| async move { Ok(count + 1) }).await
}

/// Says that the object doesn't count. On a full store, what only made it count goes first, to make room for the word.
async fn abort(work: &Work) -> Result<(), Fault> {
    let said = say_aborted(work).await;
    if !is_full(&said) {
        return said;
    }
    let aborted = aborted_key(work.operation);
    if work.store.head(&aborted).await?.is_some() {
        return Ok(());
    }
    work.lease.check()?;
    work.store.delete(&ready_key(work.operation)).await?;
    remove_all(&work.store, &work.lease, &objects_prefix(work.operation), &[aborted]).await?;
    say_aborted(work).await
}

async fn say_aborted(work: &Work) -> Result<(), Fault> {
    work.lease.check()?;
    let body = encode_aborted().map_err(|broken| Fault::permanent(code::INTERNAL, format!("write aborted: {broken}")))?;
    work.store.put(&aborted_key(work.operation), body.into(), PutMode::Replace).await?;
    Ok(())
}

fn is_full<T>(ended: &Result<T, Fault>) -> bool {
    ended.as_ref().is_err_and(|fault| fault.code == code::STORE_FULL)
}

async fn refuse_aborted(work: &Work) -> Result<(), Fault> {
    match work.store.head(&aborted_key(work.operation)).await? {
        None => Ok(()),
        Some(_) => Err(Fault::permanent(code::OPERATION_WRONG_STATE, format!("object {} was aborted", work.operation))),
    }
}

/// Root, pages of this operation's, length and footer of its packs. The bytes read.
async fn read_back(work: &Work, root: &Root, fanout: u64) -> Result<u64, Fault> {
    let file = load_root_with_fanout(&work.store, work.operation, root, fanout).await?;
    let own: Vec<_> = file.packs.iter().filter(|pack| pack.id.operation == work.operation).cloned().collect();
    let footers = stream::iter(own).map(|pack| async move {
        work.lease.check()?;
        check_length(&work.store, &pack).await?;
        let frames = read_footer(&work.store, &pack).await?;
        Ok::<u64, Fault>(frames.len() as u64 * super::format::pack::ENTRY as u64 + super::format::pack::TRAILER as u64)
    });
    let footers = footers.buffer_unordered(PARALLEL).try_fold(0, |sum, bytes| async move { Ok(sum + bytes) }).await?;
    let pages = read_pages(work, &file).await?;
    Ok(root.bytes + footers + pages)
}

/// Reads every page that this operation wrote. One that was taken over has none below it.
async fn read_pages(work: &Work, file: &RootFile) -> Result<u64, Fault> {
    let shape = file.shape().map_err(|broken| broken.at("the root"))?;
    let mut cursor = Cursor::new(work.store.clone(), file)?;
    let own = |page: &PageRef| page_place(page).is_some_and(|place| place.pack.operation == work.operation);
    let mut index = 0;
    while index < shape.pages(0) {
        work.lease.check()?;
        index = cursor.read_wanted(index, &own).await?;
    }
    Ok(cursor.fetched())
}
