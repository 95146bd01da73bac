//! Puts finished packs and roots: a few at once, each at a name that no other attempt uses, and never more
//! bytes than the operation may write.

use super::{Work, format::MAX_PACK_BYTES};
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    steps::object::Sealed,
};
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};

use crate::{
    lease::Lease,
    store::{Put, PutMode, Store},
};

/// Sends packs, several at a time.
pub struct Uploader {
    work: Work,
    /// Packs on their way to the store at the same time.
    puts: usize,
    under_way: JoinSet<Result<(), Fault>>,
    /// Bytes put by all attempts.
    spent: u64,
    may_write: Option<u64>,
    stored: u64,
}

impl Uploader {
    /// `spent` are the bytes that earlier attempts left in the store.
    pub fn new(work: Work, puts: usize, spent: u64, may_write: Option<u64>) -> Uploader {
        Uploader { work, puts, under_way: JoinSet::new(), spent, may_write, stored: 0 }
    }

    /// Bytes that this attempt sent.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Sends a sealed pack; waits while too many are under way.
    pub async fn pack(&mut self, pack: Sealed, body: Bytes) -> Result<(), Fault> {
        self.spend(pack.bytes)?;
        while self.under_way.len() >= self.puts {
            self.one_ended().await?;
        }
        let (store, lease) = (self.work.store.clone(), self.work.lease.clone());
        self.under_way.spawn(async move {
            put_new(&store, &lease, &pack.id.key(), body).await?;
            lease.sealed(pack);
            Ok(())
        });
        Ok(())
    }

    /// Waits until every pack is in the store, then puts `body` at `key`.
    pub async fn last(&mut self, key: &str, body: Bytes) -> Result<(), Fault> {
        self.flush().await?;
        self.spend(body.len() as u64)?;
        put_new(&self.work.store, &self.work.lease, key, body).await
    }

    /// Waits until every pack is in the store.
    pub async fn flush(&mut self) -> Result<(), Fault> {
        while !self.under_way.is_empty() {
            self.one_ended().await?;
        }
        Ok(())
    }

    /// Waits for one put. After a fault it waits for the others too: what they finish needn't be sent again.
    async fn one_ended(&mut self) -> Result<(), Fault> {
        let mut ended = joined(self.under_way.join_next().await);
        while ended.is_err() && !self.under_way.is_empty() {
            ended = ended.and(joined(self.under_way.join_next().await));
        }
        ended
    }

    fn spend(&mut self, bytes: u64) -> Result<(), Fault> {
        let sum = self.spent.saturating_add(bytes);
        if let Some(limit) = self.may_write.filter(|limit| sum > *limit) {
            let message = format!("{bytes} bytes more would make {sum} bytes, and {limit} are reserved");
            return Err(Fault::permanent(code::RESERVATION_EXCEEDED, message));
        }
        self.spent = sum;
        self.stored += bytes;
        Ok(())
    }
}

fn joined(ended: Option<Result<Result<(), Fault>, JoinError>>) -> Result<(), Fault> {
    match ended {
        None => Ok(()),
        Some(Ok(ended)) => ended,
        Some(Err(error)) => Err(Fault::transient(code::INTERNAL, format!("a put died: {error}"))),
    }
}

/// Puts `body` at a key that is this attempt's alone. A key that exists is our own put whose answer was lost,
/// if it holds the same bytes.
pub async fn put_new(store: &Arc<dyn Store>, lease: &Lease, key: &str, body: Bytes) -> Result<(), Fault> {
    lease.check()?;
    match store.put(key, body.clone(), PutMode::Create).await? {
        Put::Written => Ok(()),
        Put::Existed => {
            let length = store.head(key).await?.map(|entry| entry.bytes);
            let same_length =
                length == Some(body.len() as u64) && body.len() as u64 <= MAX_PACK_BYTES.max(super::format::root::MAX_ROOT);
            if same_length && store.get(key, 0..body.len() as u64).await? == body {
                return Ok(());
            }
            Err(Fault::transient(
                code::STORE_MISBEHAVED,
                format!(
                    "{key} exists with other bytes, and only this attempt writes it: it was begun twice, or the store misbehaves"
                ),
            ))
        }
    }
}
