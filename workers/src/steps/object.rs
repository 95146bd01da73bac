//! Steps at an object in a store.

use super::{Context, OpenStore};
use crate::datapath::{Work, commit, copy as copying, restore, until_stopped, verify as verifying};
use longshore_schema::{
    fault::Fault,
    ids::OperationId,
    steps::{
        object::{Commit, Committed, Copied, Copy, Discard, Probe, Unlink, Verified, Verify},
        volume::Measured,
    },
};

/// `object.copy`
pub async fn copy(context: Context, step: Copy, _measured: Measured) -> Result<Copied, Fault> {
    let OpenStore { store, extent_size } = context.store(&step.store)?;
    let pool = context.pool(&step.pool)?;
    let work = Work { store, lease: context.lease.clone(), operation: step.operation, attempt: context.attempt.n };
    let opening = pool.reader(&step.volume, step.snapshot.as_deref());
    let reader = until_stopped(&context.lease, opening).await?;
    let Copy { base, about, .. } = step;
    let what = copying::Copying { reader, extent_size, base, about, may_write: context.may_write };
    copying::copy(&work, what).await
}

/// `object.commit`
pub async fn commit(context: Context, step: Commit, copied: Copied) -> Result<Committed, Fault> {
    let work = work(&context, &step.store, step.operation)?;
    until_stopped(&context.lease, commit::commit(&work, &copied.root)).await
}

/// `object.probe`
pub async fn probe(context: Context, step: Probe, _input: ()) -> Result<Option<Committed>, Fault> {
    let work = work(&context, &step.store, step.operation)?;
    until_stopped(&context.lease, commit::probe(&work)).await
}

/// `object.unlink`
pub async fn unlink(context: Context, step: Unlink, _input: ()) -> Result<(), Fault> {
    let work = work(&context, &step.store, step.operation)?;
    until_stopped(&context.lease, commit::unlink(&work)).await
}

/// `object.discard`
pub async fn discard(context: Context, step: Discard, _input: ()) -> Result<(), Fault> {
    let work = work(&context, &step.store, step.operation)?;
    until_stopped(&context.lease, commit::discard(&work)).await
}

/// `object.verify`
pub async fn verify(context: Context, step: Verify, _input: ()) -> Result<Verified, Fault> {
    let store = context.store(&step.store)?.store;
    verifying::verify(&context.lease, &restore::Source { store, object: step.object, root: step.root }).await
}

fn work(context: &Context, store: &str, operation: OperationId) -> Result<Work, Fault> {
    let store = context.store(store)?.store;
    Ok(Work { store, lease: context.lease.clone(), operation, attempt: context.attempt.n })
}
