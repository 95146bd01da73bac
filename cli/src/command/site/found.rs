//! Founding a store: what it does is tried out, and its `store.json` names this database as its owner.

use longshore_engine::site::DEFAULT_EXTENT_SIZE;
use longshore_schema::{
    fault::Fault,
    site::{Pool, Size, Store},
};
use longshore_workers::{
    opener,
    store::{description, open, probe},
};
use std::path::Path;
use uuid::Uuid;

/// Tries a store out and founds it, or checks that it is ours; `store` gets the extent size that counts. `asked`
/// is the entry as the file has it.
pub(super) async fn found(store: &mut Store, asked: &Store, incarnation: Uuid) -> Result<(), Fault> {
    let named = |fault: Fault| fault.while_(format!("try out store {}", asked.name));
    make_directory(&store.url);
    let capabilities = probe::probe(store).await.map_err(named)?;
    capabilities.require().map_err(named)?;
    let opened = open::open(store, Some(&capabilities)).await.map_err(named)?;
    let size = store.extent_size.and_then(|it| u32::try_from(it.0).ok()).unwrap_or(DEFAULT_EXTENT_SIZE);
    let description = description::found(opened.as_ref(), size, incarnation, capabilities).await.map_err(named)?;
    description.check_extent_size(asked.extent_size).map_err(named)?;
    store.extent_size = Some(Size(u64::from(description.extent_size)));
    if capabilities.keeps_versions {
        eprintln!(
            "store {}: the bucket keeps old versions: what is destroyed takes up space until its lifecycle rule removes it",
            store.name
        );
    }
    if !capabilities.conditional_put {
        eprintln!("store {}: puts aren't conditional there; Longshore doesn't depend on it", store.name);
    }
    Ok(())
}

/// The last part of a local store's path is made, its parents are not: an unmounted NFS would be founded in vain.
fn make_directory(url: &str) {
    if let Some(path) = url.strip_prefix("file://") {
        // If it isn't there afterwards, the probe says why.
        let _ = std::fs::create_dir(Path::new(path));
    }
}

/// A pool may be on another host, so that it isn't reached from here is no error.
pub(super) async fn warn_of_pool(pool: &Pool) {
    let pinged = match opener::pool(pool) {
        Ok(opened) => opened.ping().await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = pinged {
        eprintln!("pool {}: not reached from this host, its workers must: {fault}", pool.name);
    }
}
