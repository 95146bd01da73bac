//! Opens places for real: pools by their hypervisor, stores by their url. What a worker announces that it
//! reaches was opened here, on its own host, with its own secrets.

use crate::{
    hypervisor::{self, kvm::Kvm},
    reach::Opener,
    steps::OpenStore,
    store,
};
use async_trait::async_trait;
use longshore_schema::{
    fault::{Fault, code},
    site::{self, Hypervisor, Pool},
};
use std::{path::PathBuf, sync::Arc};
use uuid::Uuid;

/// Opens places on this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostOpener;

#[async_trait]
impl Opener for HostOpener {
    async fn pool(&self, pool: &Pool) -> Result<Arc<dyn hypervisor::Hypervisor>, Fault> {
        let opened = self::pool(pool)?;
        opened.ping().await.map_err(|fault| fault.while_(format!("open pool {}", pool.name)))?;
        Ok(opened)
    }

    async fn store(&self, store: &site::Store, incarnation: Uuid) -> Result<OpenStore, Fault> {
        let (opened, description) = store::open::attach(store, incarnation).await?;
        description.check_extent_size(store.extent_size).map_err(|fault| fault.while_(format!("open store {}", store.name)))?;
        let checks_bodies = description.capabilities.checks_bodies();
        Ok(OpenStore { store: opened, extent_size: description.extent_size, checks_bodies })
    }
}

/// A pool of the site, which isn't looked at yet.
pub fn pool(pool: &Pool) -> Result<Arc<dyn hypervisor::Hypervisor>, Fault> {
    match (pool.hypervisor, pool.url.split_once("://")) {
        (Hypervisor::Kvm, Some(("file", path))) => {
            let kvm = Kvm::new(PathBuf::from(path));
            Ok(Arc::new(if pool.backing_files { kvm.with_backing_files() } else { kvm }))
        }
        (Hypervisor::Kvm, _) => {
            Err(Fault::permanent(code::SITE_INVALID, format!("pool {}: url is file:// and an absolute path", pool.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{description::found, open::open, probe::probe};
    use longshore_schema::site::{Site, Size};

    fn site(directory: &std::path::Path) -> Site {
        let directory = directory.display();
        Site::parse(&format!(
            "[[zone]]\nname='z1'\nregion='r1'\n[[pool]]\nname='p'\nzone='z1'\nhypervisor='kvm'\nurl='file://{directory}/pool'\n\
             capacity=1\n[[store]]\nname='s'\nzone='z1'\nurl='file://{directory}/store'\ncapacity=1\n"
        ))
        .unwrap()
    }

    #[tokio::test]
    async fn a_pool_that_is_not_there_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let site = site(directory.path());
        let fault = HostOpener.pool(&site.pools[0]).await.err().unwrap();
        assert!(fault.message.starts_with("open pool p: "), "{fault}");
        std::fs::create_dir(directory.path().join("pool")).unwrap();
        HostOpener.pool(&site.pools[0]).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_gives_the_extent_size_of_its_founding_and_contradicts_a_site_that_asks_for_another() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("store")).unwrap();
        let mut place = site(directory.path()).stores.remove(0);
        let owner = Uuid::now_v7();
        let capabilities = probe(&place).await.unwrap();
        found(&*open(&place, Some(&capabilities)).await.unwrap(), 128 << 10, owner, capabilities).await.unwrap();
        assert_eq!(HostOpener.store(&place, owner).await.unwrap().extent_size, 128 << 10);
        place.extent_size = Some(Size(256 << 10));
        assert_eq!(HostOpener.store(&place, owner).await.err().unwrap().code, code::SITE_INVALID);
    }
}
