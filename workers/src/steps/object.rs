//! Steps at an object in a store.

use super::{Context, OpenStore};
use crate::{
    datapath::{
        Tuning, Work, commit, copy as copying, counts::check_counts, object::ObjectReader, restore, until_stopped,
        verify as verifying,
    },
    hypervisor::{BlockRead, Hypervisor},
};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::{
        object::{Commit, Committed, Copied, Copy, Discard, Probe, Transfer, Unlink, Verified, Verify},
        volume::Measured,
    },
};

/// `object.copy`
pub async fn copy(context: Context, step: Copy, measured: Measured) -> Result<Copied, Fault> {
    let OpenStore { store, extent_size, checks_bodies } = context.store(&step.store)?;
    let pool = context.pool(&step.pool)?;
    let work = Work { store, lease: context.lease.clone(), operation: step.operation, attempt: context.attempt.n };
    let opening = open_as_measured(pool.as_ref(), &step, &measured);
    let reader = until_stopped(&context.lease, opening).await?;
    let Copy { base, about, volume, snapshot, .. } = step;
    let read_back = !checks_bodies;
    let (may_write, tuning) = (context.may_write, Tuning::default());
    let what = copying::Copying { reader, frames: None, extent_size, base, about, may_write, read_back, tuning };
    match copying::copy(&work, what).await {
        Err(fault) if fault.code == code::RESERVATION_EXCEEDED => {
            let now = until_stopped(&context.lease, pool.measure(&volume, snapshot.as_deref(), Some(measured.format))).await?;
            Err(grown(&volume, &measured, &now).unwrap_or(fault))
        }
        ended => ended,
    }
}

/// The reader, in the format that was settled when it was measured: what a guest wrote since can't change that.
async fn open_as_measured(pool: &dyn Hypervisor, step: &Copy, measured: &Measured) -> Result<Box<dyn BlockRead>, Fault> {
    let reader = pool.reader(&step.volume, step.snapshot.as_deref(), Some(measured.format)).await?;
    let (now, then) = (reader.size(), measured.virtual_size);
    if now == then {
        return Ok(reader);
    }
    reader.close().await?;
    let message = format!("{} has {now} bytes, and had {then} when space was reserved for it", step.volume);
    Err(Fault::permanent(code::VOLUME_CHANGED, message))
}

/// The fault if more of the volume is allocated than when space was reserved for it.
fn grown(volume: &str, then: &Measured, now: &Measured) -> Option<Fault> {
    let (now, then) = (now.allocated, then.allocated);
    let message = format!("{volume} has {now} bytes allocated, and had {then} when space was reserved for it");
    (now > then).then(|| Fault::permanent(code::VOLUME_CHANGED, message))
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

/// `object.transfer`
pub async fn transfer(context: Context, step: Transfer, _input: ()) -> Result<Copied, Fault> {
    let from = context.store(&step.from)?.store;
    let OpenStore { store, extent_size, checks_bodies } = context.store(&step.store)?;
    let work = Work { store, lease: context.lease.clone(), operation: step.operation, attempt: context.attempt.n };
    let source = restore::Source { store: from, object: step.object, root: step.root };
    let reader = until_stopped(&context.lease, ObjectReader::open(&source, &step.from)).await?;
    let frames = (reader.extent_size() == extent_size).then(|| reader.clone());
    let what = copying::Copying {
        reader: Box::new(reader),
        frames,
        extent_size,
        base: step.base,
        about: step.about,
        may_write: context.may_write,
        read_back: !checks_bodies,
        tuning: Tuning::default(),
    };
    copying::copy(&work, what).await
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
    until_stopped(&context.lease, check_counts(&store, step.object, &step.root)).await?;
    verifying::verify(&context.lease, &restore::Source { store, object: step.object, root: step.root }).await
}

fn work(context: &Context, store: &str, operation: OperationId) -> Result<Work, Fault> {
    let store = context.store(store)?.store;
    Ok(Work { store, lease: context.lease.clone(), operation, attempt: context.attempt.n })
}
