//! A store that stays the one that was attached to. Another one may come to its url while a worker runs: another share at
//! the mount point, a bucket deleted and made anew, a folder's content exchanged. So `store.json` is read again before
//! anything is written, listed or removed, and when something isn't there that should be.
//!
//! **Invariant**: what is exchanged later than that read is at most one request old.

use super::{
    Entry, Put, PutMode, Store,
    description::{self, Description, KEY},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    future::ready,
    stream::{self, BoxStream},
};
use longshore_schema::fault::{Class, Fault, code};
use std::{ops::Range, sync::Arc};

/// A store and what its `store.json` said when it was opened.
pub struct Attached {
    inner: Arc<dyn Store>,
    founded: Description,
    /// The same as `store.json` has it.
    text: Bytes,
}

impl Attached {
    /// Of a store whose owner was checked.
    pub fn new(inner: Arc<dyn Store>, founded: Description) -> Result<Attached, Fault> {
        let text = founded.to_bytes()?;
        Ok(Attached { inner, founded, text })
    }

    /// `store.missing` or `store.foreign` if it is another store by now. They pass: the worker opens the url anew when it
    /// looks again, and whoever exchanged the store may bring back the right one.
    async fn check(&self) -> Result<(), Fault> {
        let passes = |fault| Fault { class: Class::Transient, ..fault };
        match self.inner.get(KEY, 0..self.text.len() as u64).await {
            Ok(text) if text == self.text => return Ok(()),
            // Perhaps only what it was seen to do changed.
            Ok(_) => (),
            Err(fault) if fault.code == code::OBJECT_MISSING => (),
            Err(fault) if fault.code == code::STORE_MISSING => return Err(passes(fault)),
            Err(fault) => return Err(fault),
        }
        let now = description::read(&*self.inner).await.map_err(passes)?;
        if now.is_of_the_founding(&self.founded) {
            return Ok(());
        }
        let (was, is) = (&self.founded, &now);
        let message = format!(
            "another store is there now: it was founded at {} by database {}, and the one that was opened at {} by {}",
            is.created, is.incarnation, was.created, was.incarnation
        );
        Err(Fault::transient(code::STORE_FOREIGN, message))
    }
}

#[async_trait]
impl Store for Attached {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        self.check().await?;
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        // What is there has digests that no other store's bytes have.
        match self.inner.get(key, range).await {
            Err(fault) if fault.code == code::OBJECT_MISSING => self.check().await.and(Err(fault)),
            got => got,
        }
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        match self.inner.head(key).await? {
            None => self.check().await.map(|()| None),
            found => Ok(found),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        let checked = stream::once(self.check()).filter_map(|checked| ready(checked.err().map(Err)));
        checked.chain(self.inner.list(prefix)).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.check().await?;
        self.inner.delete(key).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Entry>, Fault> {
        self.check().await?;
        self.inner.unfinished(prefix).await
    }

    async fn discard_unfinished(&self, key: &str) -> Result<(), Fault> {
        self.check().await?;
        self.inner.discard_unfinished(key).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await?;
        self.check().await
    }
}

#[cfg(test)]
mod tests;
