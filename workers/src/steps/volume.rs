//! Steps at a volume in a pool.

use super::Context;
use crate::{
    datapath::{counts::check_counts, restore, until_stopped},
    hypervisor::Draft,
};
use longshore_schema::{
    fault::Fault,
    steps::volume::{Discard, Identity, Measure, Measured, Publish, Remove, Write, Written},
};

/// `volume.measure`
pub async fn measure(context: Context, step: Measure, _input: ()) -> Result<Measured, Fault> {
    let pool = context.pool(&step.pool)?;
    until_stopped(&context.lease, pool.measure(&step.volume, step.snapshot.as_deref(), step.format)).await
}

/// `volume.write`
pub async fn write(context: Context, step: Write, _input: ()) -> Result<Written, Fault> {
    let Write { store, object, root, pool, volume, format, operation } = step;
    let pool = context.pool(&pool)?;
    let source = restore::Source { store: context.store(&store)?.store, object, root };
    let draft = Draft { volume, operation, attempt: context.attempt.n };
    until_stopped(&context.lease, async {
        pool.check_free(&draft).await?;
        check_counts(&source.store, source.object, &source.root).await
    })
    .await?;
    let (virtual_size, scanned) =
        restore::restore(&context.lease, &source, async |size| pool.writer(&draft, size, format).await).await?;
    Ok(Written {
        virtual_size,
        written: scanned.bytes,
        fetched: scanned.fetched + source.root.bytes,
        requests: scanned.requests,
        attempt: draft.attempt,
    })
}

/// `volume.discard`
pub async fn discard(context: Context, step: Discard, _input: ()) -> Result<(), Fault> {
    let pool = context.pool(&step.pool)?;
    context.lease.check()?;
    until_stopped(&context.lease, pool.discard(step.operation)).await
}

/// `volume.publish`
pub async fn publish(context: Context, step: Publish, written: Written) -> Result<Identity, Fault> {
    let pool = context.pool(&step.pool)?;
    context.lease.check()?;
    let draft = Draft { volume: step.volume, operation: step.operation, attempt: written.attempt };
    until_stopped(&context.lease, pool.publish(&draft)).await
}

/// `volume.remove`
pub async fn remove(context: Context, step: Remove, identity: Option<Identity>) -> Result<(), Fault> {
    let pool = context.pool(&step.pool)?;
    context.lease.check()?;
    until_stopped(&context.lease, pool.remove(&step.volume, step.operation, identity.as_ref())).await
}
