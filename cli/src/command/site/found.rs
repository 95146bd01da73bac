//! Founding a store: what it does is tried out, and its `store.json` names this database as its owner.

use longshore_engine::site::DEFAULT_EXTENT_SIZE;
use longshore_schema::{
    fault::{Fault, code},
    site::{Overlap, Pool, Site, Size, Store},
};
use longshore_workers::{
    opener,
    store::{description, open, probe},
};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Tries a store out and founds it, or checks that it is ours; `store` gets the extent size that counts. `asked`
/// is the entry as the file has it. `create` makes the folder of a local store.
pub(super) async fn found(store: &mut Store, asked: &Store, incarnation: Uuid, create: bool) -> Result<(), Fault> {
    let named = |fault: Fault| {
        let mut fault = fault.while_(format!("try out store {}", asked.name));
        if fault.code == code::STORE_MISSING && asked.url.starts_with("file://") {
            fault.message += "; mount it, or make the folder: with --create, if only its last part is missing";
        }
        fault
    };
    if create {
        make_directory(&store.url);
    }
    let capabilities = probe::probe(store).await.map_err(named)?;
    capabilities.require().map_err(named)?;
    let opened = open::open(store, Some(&capabilities)).await.map_err(named)?;
    let size = store.extent_size.and_then(|it| u32::try_from(it.0).ok()).unwrap_or(DEFAULT_EXTENT_SIZE);
    let description = description::found(opened.as_ref(), size, incarnation, capabilities).await.map_err(named)?;
    description.check_extent_size(asked.extent_size).map_err(named)?;
    store.extent_size = Some(Size(u64::from(description.extent_size)));
    if capabilities.keeps_versions {
        eprintln!(
            "store {}: old versions are kept there: what is destroyed takes up space until a rule of the service removes it",
            store.name
        );
    }
    if !capabilities.conditional_put {
        eprintln!("store {}: puts aren't conditional there; Longshore doesn't depend on it", store.name);
    }
    Ok(())
}

/// Only when asked, and only the last part of the path: an unmounted share would be founded below its mount point.
fn make_directory(url: &str) {
    if let Some(path) = url.strip_prefix("file://") {
        // If it isn't there afterwards, the probe says why.
        let _ = std::fs::create_dir(Path::new(path));
    }
}

/// Places that the urls keep apart and this host doesn't: through symbolic links. Other hosts may have others.
pub(super) fn warn_of_links(site: &Site) {
    let mut real = site.clone();
    let urls = real.stores.iter_mut().map(|it| &mut it.url).chain(real.pools.iter_mut().map(|it| &mut it.url));
    for url in urls.filter(|it| it.starts_with("file://")) {
        if let Some(path) = followed(Path::new(&url["file://".len()..])) {
            *url = format!("file://{}", path.display());
        }
    }
    let told = site.overlaps();
    for overlap in real.overlaps().iter().filter(|it| !told.iter().any(|known| same(known, it))) {
        eprintln!("on this host, by symbolic links, {overlap}");
    }
}

fn same(one: &Overlap<'_>, other: &Overlap<'_>) -> bool {
    (one.one, one.other) == (other.one, other.other)
}

/// Where a path leads; of one that isn't there yet, where its folder does.
fn followed(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
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
