//! From a store's entry in the site file to the store: one list of URL schemes, one line for each backend.

use super::{Store, attached::Attached, description, description::Description, file, probe::Capabilities, s3, swift};
use async_trait::async_trait;
use futures::future::BoxFuture;
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use std::sync::Arc;
use uuid::Uuid;

/// A place of the site file, opened by the backend of its url.
#[async_trait]
pub(super) trait Backend: Send + Sync {
    /// The store, used as far as `capabilities` go.
    fn store(&self, capabilities: Capabilities) -> Arc<dyn Store>;

    /// `tried`, with what takes more than `Store` to find out. Works below `scratch`, and may leave keys there.
    async fn try_out(&self, scratch: &str, tried: Capabilities) -> Result<Capabilities, Fault>;
}

/// Resolves the credentials on this host; no service is asked anything yet.
type Open = fn(&site::Store) -> BoxFuture<'_, Result<Box<dyn Backend>, Fault>>;

/// By the scheme of their urls.
const BACKENDS: &[(&str, Open)] = &[
    ("file", |place| Box::pin(file::backend(place))),
    ("s3", |place| Box::pin(s3::backend(place))),
    ("swift", |place| Box::pin(swift::backend(place))),
];

/// Opens a place by the backend of its url.
pub(super) async fn backend(place: &site::Store) -> Result<Box<dyn Backend>, Fault> {
    let scheme = place.url.split_once("://").map(|(scheme, _)| scheme);
    match BACKENDS.iter().find(|(name, _)| scheme == Some(*name)) {
        Some((_, open)) => open(place).await,
        None => Err(Fault::permanent(code::SITE_INVALID, format!("store {}: there is no backend for its url", place.name))),
    }
}

/// Opens a store to be used as far as `capabilities` go; without, as far as any store can be trusted.
pub async fn open(place: &site::Store, capabilities: Option<&Capabilities>) -> Result<Arc<dyn Store>, Fault> {
    Ok(backend(place).await?.store(capabilities.copied().unwrap_or_default()))
}

/// Opens a store that `site apply` has founded, checks that it is that of the database with `incarnation`, and goes on
/// checking that it stays that one.
pub async fn attach(place: &site::Store, incarnation: Uuid) -> Result<(Arc<dyn Store>, Description), Fault> {
    let backend = backend(place).await?;
    let described = description::read(&*backend.store(Capabilities::default())).await;
    let named = |fault: Fault| fault.while_(format!("open store {}", place.name));
    let description = described.map_err(named)?;
    description.check_owner(incarnation).map_err(named)?;
    let store = Attached::new(backend.store(description.capabilities), description.clone())?;
    Ok((Arc::new(store), description))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PutMode, description::found};

    fn place(url: &str) -> site::Store {
        let site = "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n[[store]]\nname = \"s\"\nzone = \"z1\"\ncapacity = 1\nurl = \"file:///x\"\n";
        let mut place = site::Site::parse(site).unwrap().stores.remove(0);
        place.url = url.to_owned();
        place
    }

    #[test]
    fn backends_are_in_the_order_of_their_schemes() {
        assert!(BACKENDS.is_sorted_by(|(one, _), (next, _)| one < next), "none is there twice");
    }

    #[tokio::test]
    async fn a_store_opens_by_its_scheme_and_another_scheme_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&place(&format!("file://{}", directory.path().display())), None).await.unwrap();
        store.put("a", bytes::Bytes::new(), PutMode::Create).await.unwrap();
        assert!(directory.path().join("a").exists());
        for url in ["ftp://x", "swift://x", "", "s3", "FILE:///x"] {
            assert_eq!(open(&place(url), None).await.err().unwrap().code, code::SITE_INVALID, "{url}");
        }
    }

    #[tokio::test]
    async fn only_the_database_that_founded_a_store_attaches_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(&format!("file://{}", directory.path().display()));
        let owner = Uuid::now_v7();
        assert_eq!(attach(&place, owner).await.err().unwrap().code, code::STORE_MISSING);
        let capabilities = crate::store::probe::probe(&place).await.unwrap();
        let founded = found(&*open(&place, Some(&capabilities)).await.unwrap(), 64 << 10, owner, capabilities).await.unwrap();
        assert_eq!(attach(&place, owner).await.unwrap().1, founded);
        let fault = attach(&place, Uuid::now_v7()).await.err().unwrap();
        assert!(fault.code == code::STORE_FOREIGN && fault.message.contains("open store s:"), "{fault}");
    }

    #[test]
    fn all_that_takes_time_can_run_in_a_task_of_its_own() {
        fn can_be_spawned(_: impl Future + Send) {}
        let (place, capabilities) = (place("file:///x"), Capabilities::default());
        can_be_spawned(open(&place, None));
        can_be_spawned(attach(&place, Uuid::nil()));
        can_be_spawned(crate::store::probe::probe(&place));
        let place = place.clone();
        can_be_spawned(async move {
            let store = open(&place, None).await.unwrap();
            found(&*store, 0, Uuid::nil(), capabilities).await.unwrap();
            description::read(&*store).await.unwrap();
        });
    }
}
