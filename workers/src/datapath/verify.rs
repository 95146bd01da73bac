//! `object.verify`: reads every byte of every extent and page, and the footer of every pack.

use super::{
    manifest::load_root,
    restore::Source,
    resume::{check_length, read_footer},
    scan::{Sink, scan},
    until_stopped,
};
use crate::lease::Lease;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{fault::Fault, steps::object::Verified};
use std::sync::Arc;

/// Footers read at the same time.
const PARALLEL: usize = 8;

struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn take(&self, _offset: u64, _data: Bytes) -> Result<(), Fault> {
        Ok(())
    }
}

/// Checks everything; the first damage that is found is the fault.
pub async fn verify(lease: &Arc<Lease>, source: &Source) -> Result<Verified, Fault> {
    until_stopped(lease, async {
        let root = load_root(&source.store, source.object, &source.root).await?;
        let store = &source.store;
        let footers = stream::iter(root.packs.clone()).map(|pack| async move {
            lease.check()?;
            check_length(store, &pack).await?;
            read_footer(store, &pack).await.map(|frames| frames.len() as u64)
        });
        let footers: Vec<u64> = footers.buffer_unordered(PARALLEL).try_collect().await?;
        let scanned = scan(store, lease, &root, Arc::new(Nowhere)).await?;
        Ok(Verified {
            digest: root.header.object_digest.clone(),
            virtual_size: root.header.virtual_size,
            extents: scanned.extents,
            packs: footers.len() as u64,
            fetched: scanned.fetched + root_and_footers(source, &footers),
        })
    })
    .await
}

fn root_and_footers(source: &Source, frames: &[u64]) -> u64 {
    let footers = frames.iter().map(|count| count * super::format::pack::ENTRY as u64 + super::format::pack::TRAILER as u64);
    source.root.bytes + footers.sum::<u64>()
}
