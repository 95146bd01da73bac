//! A store that counts what goes through it: for metrics, and for tests that say what may not be sent twice.

use super::{Entry, Put, PutMode, Store};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use longshore_schema::fault::Fault;
use std::{
    ops::Range,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A store and what was asked of it.
pub struct Counted {
    inner: Arc<dyn Store>,
    counts: Arc<Counts>,
}

/// Requests by kind, faults, and bytes of bodies. A request that failed counts too; bytes only where it succeeded.
#[derive(Debug, Default)]
pub struct Counts {
    /// Puts.
    pub puts: AtomicU64,
    /// Gets.
    pub gets: AtomicU64,
    /// Heads.
    pub heads: AtomicU64,
    /// Lists.
    pub lists: AtomicU64,
    /// Deletes.
    pub deletes: AtomicU64,
    /// Requests that ended in a fault; lists aside.
    pub faults: AtomicU64,
    /// Bytes of the bodies of puts that wrote.
    pub written_bytes: AtomicU64,
    /// Bytes that gets returned.
    pub read_bytes: AtomicU64,
}

impl Counted {
    /// Counts from zero what goes to `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Counted {
        Counted { inner, counts: Arc::default() }
    }

    /// The counts, which go on changing.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    fn note<T>(&self, requests: &AtomicU64, result: Result<T, Fault>) -> Result<T, Fault> {
        requests.fetch_add(1, Relaxed);
        self.counts.faults.fetch_add(u64::from(result.is_err()), Relaxed);
        result
    }
}

#[async_trait]
impl Store for Counted {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        let bytes = body.len() as u64;
        let put = self.note(&self.counts.puts, self.inner.put(key, body, mode).await)?;
        match put {
            Put::Written => self.counts.written_bytes.fetch_add(bytes, Relaxed),
            Put::Existed => 0,
        };
        Ok(put)
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let body = self.note(&self.counts.gets, self.inner.get(key, range).await)?;
        self.counts.read_bytes.fetch_add(body.len() as u64, Relaxed);
        Ok(body)
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        self.note(&self.counts.heads, self.inner.head(key).await)
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        self.counts.lists.fetch_add(1, Relaxed);
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.note(&self.counts.deletes, self.inner.delete(key).await)
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Entry>, Fault> {
        self.inner.unfinished(prefix).await
    }

    async fn discard_unfinished(&self, key: &str) -> Result<(), Fault> {
        self.inner.discard_unfinished(key).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::FileStore;

    #[tokio::test]
    async fn requests_faults_and_the_bytes_of_bodies_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let store = Counted::new(Arc::new(FileStore::open(directory.path()).await.unwrap()));
        for _ in 0..2 {
            store.put("a", Bytes::from_static(b"12345"), PutMode::Create).await.unwrap();
        }
        store.get("a", 1..3).await.unwrap();
        store.get("b", 1..3).await.unwrap_err();
        store.head("a").await.unwrap();
        store.delete("a").await.unwrap();
        let counts = store.counts();
        let seen = [
            &counts.puts,
            &counts.gets,
            &counts.heads,
            &counts.deletes,
            &counts.faults,
            &counts.written_bytes,
            &counts.read_bytes,
        ];
        assert_eq!(seen.map(|it| it.load(Relaxed)), [2, 2, 1, 1, 1, 5, 2]);
    }
}
