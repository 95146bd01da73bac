//! From a store's entry in the site file to the store: one list of URL schemes, one line for each backend.

use super::{Store, description, description::Description, file::FileStore, probe::Capabilities, s3::S3Store};
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

/// Opens a store that `site apply` has founded, and checks that it is that of the database with `incarnation`.
pub async fn attach(place: &site::Store, incarnation: Uuid) -> Result<(Arc<dyn Store>, Description), Fault> {
    let opened = Opened::open(place).await?;
    let described = description::read(&*opened.clone().with(Capabilities::default())).await;
    let named = |fault: Fault| fault.while_(format!("open store {}", place.name));
    let description = described.map_err(named)?;
    description.check_owner(incarnation).map_err(named)?;
    Ok((opened.with(description.capabilities), description))
}
