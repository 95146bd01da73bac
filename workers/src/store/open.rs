//! From a store's entry in the site file to the store: one list of URL schemes, one line for each backend.

use super::{
    Store, attached::Attached, description, description::Description, file::FileStore, probe::Capabilities, s3::S3Store,
};
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use std::{path::Path, sync::Arc};
use uuid::Uuid;

/// A store of a known backend.
#[derive(Debug, Clone)]
pub(super) enum Opened {
    File(FileStore),
    S3(S3Store),
}

impl Opened {
    pub(super) async fn open(place: &site::Store) -> Result<Opened, Fault> {
        match place.url.split_once("://") {
            Some(("file", path)) => FileStore::open(Path::new(path)).await.map(Opened::File),
            Some(("s3", _)) => S3Store::new(place).map(Opened::S3),
            _ => Err(Fault::permanent(code::SITE_INVALID, format!("store {}: there is no backend for its url", place.name))),
        }
    }

    fn with(self, capabilities: Capabilities) -> Arc<dyn Store> {
        match self {
            Opened::File(store) => Arc::new(store),
            Opened::S3(store) => Arc::new(store.with(capabilities)),
        }
    }
}

/// Opens a store to be used as far as `capabilities` go; without, as far as any store can be trusted. Resolves
/// the credentials on this host; an S3 service isn't asked anything yet.
pub async fn open(place: &site::Store, capabilities: Option<&Capabilities>) -> Result<Arc<dyn Store>, Fault> {
    Ok(Opened::open(place).await?.with(capabilities.copied().unwrap_or_default()))
}

/// Opens a store that `site apply` has founded, checks that it is that of the database with `incarnation`, and goes on
/// checking that it stays that one.
pub async fn attach(place: &site::Store, incarnation: Uuid) -> Result<(Arc<dyn Store>, Description), Fault> {
    let opened = Opened::open(place).await?;
    let described = description::read(&*opened.clone().with(Capabilities::default())).await;
    let named = |fault: Fault| fault.while_(format!("open store {}", place.name));
    let description = described.map_err(named)?;
    description.check_owner(incarnation).map_err(named)?;
    let store = Attached::new(opened.with(description.capabilities), description.clone())?;
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

    #[tokio::test]
    async fn a_store_opens_by_its_scheme_and_another_scheme_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&place(&format!("file://{}", directory.path().display())), None).await.unwrap();
        store.put("a", bytes::Bytes::new(), PutMode::Create).await.unwrap();
        assert!(directory.path().join("a").exists());
        for url in ["swift://x", "", "s3", "FILE:///x"] {
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
