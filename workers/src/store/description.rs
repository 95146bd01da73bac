//! `store.json`: what a store says of itself. It fixes the extent size for ever and names the database that
//! owns the store, so that no other one, nor a restored copy of it, deletes anything there.

use super::{Put, PutMode, Store, probe::Capabilities};
use bytes::Bytes;
use futures::StreamExt;
use longshore_schema::{
    fault::{Fault, code},
    site::Size,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Where it is, below the store's prefix.
pub const KEY: &str = "store.json";
/// The format of the whole store: `docs/store-format.md`.
pub const FORMAT_VERSION: u32 = 1;
const LONGEST: u64 = 64 << 10;

/// The content of `store.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `FORMAT_VERSION`.
    pub format_version: u32,
    /// Bytes of an extent.
    pub extent_size: u32,
    /// What the store was seen to do at the last `site apply`.
    pub capabilities: Capabilities,
    /// The incarnation of the database that owns it.
    pub incarnation: Uuid,
    /// When it was founded, by the founder's clock; for people.
    pub created: Timestamp,
}

impl Description {
    /// Whether both are of one founding of one store; what it was seen to do may have changed since.
    pub fn is_of_the_founding(&self, other: &Description) -> bool {
        let Description { format_version, extent_size, capabilities: _, incarnation, created } = self;
        (format_version, extent_size, incarnation, created)
            == (&other.format_version, &other.extent_size, &other.incarnation, &other.created)
    }

    /// `store.foreign` unless the store is that of the database with `incarnation`.
    pub fn check_owner(&self, incarnation: Uuid) -> Result<(), Fault> {
        let why = || format!("the store belongs to database {}, and this is {incarnation}", self.incarnation);
        (self.incarnation == incarnation).then_some(()).ok_or_else(|| foreign(why()))
    }

    /// `site.invalid` if a site file asks for another extent size than the store was founded with.
    pub fn check_extent_size(&self, asked: Option<Size>) -> Result<(), Fault> {
        match asked {
            Some(size) if size.0 != u64::from(self.extent_size) => {
                let fixed = Size(u64::from(self.extent_size));
                let message = format!("extent_size is {size}, but the store was founded with {fixed}, which never changes");
                Err(Fault::permanent(code::SITE_INVALID, message))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Founds the store, or checks the one that is there: `store.foreign` if it belongs to another database or has
/// another format. The extent size of a store that is there wins; its capabilities are brought up to date.
pub async fn found(
    store: &dyn Store,
    extent_size: u32,
    incarnation: Uuid,
    capabilities: Capabilities,
) -> Result<Description, Fault> {
    if read_if_any(store).await?.is_none() {
        refuse_remains(store).await?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_micros());
        let created = Timestamp(i64::try_from(created).unwrap_or(i64::MAX));
        let new = Description { format_version: FORMAT_VERSION, extent_size, capabilities, incarnation, created };
        match store.put(KEY, new.to_bytes()?, PutMode::Create).await? {
            Put::Written | Put::Existed => (),
        }
    }
    // Read back in any case: where a store can't create safely, two founders may both think that they did.
    let mut description = read(store).await?;
    description.check_owner(incarnation)?;
    if description.capabilities != capabilities {
        description.capabilities = capabilities;
        store.put(KEY, description.to_bytes()?, PutMode::Replace).await?;
    }
    Ok(description)
}

/// Reads `store.json`. `store.missing` if there is none, which is also what an unmounted directory looks like.
pub async fn read(store: &dyn Store) -> Result<Description, Fault> {
    let found = read_if_any(store).await?;
    found.ok_or_else(|| {
        let why = "there is no store.json; is it mounted, and was `longshore site apply` run?";
        Fault::permanent(code::STORE_MISSING, why)
    })
}

async fn read_if_any(store: &dyn Store) -> Result<Option<Description>, Fault> {
    let Some(found) = store.head(KEY).await? else { return Ok(None) };
    if found.bytes > LONGEST {
        return Err(foreign("its store.json is over 64 KiB"));
    }
    let body = store.get(KEY, 0..found.bytes).await?;
    /// What every version of the format has.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let unreadable = |error: serde_json::Error| foreign(format!("its store.json can't be read: {error}"));
    let Version { format_version } = serde_json::from_slice(&body).map_err(unreadable)?;
    match format_version {
        FORMAT_VERSION => serde_json::from_slice(&body).map(Some).map_err(unreadable),
        other => Err(foreign(format!("it has format {other}, and this version of Longshore knows {FORMAT_VERSION}"))),
    }
}

/// Packs or objects without a `store.json` are somebody's who lost it: nothing to move in with.
async fn refuse_remains(store: &dyn Store) -> Result<(), Fault> {
    for prefix in ["packs/", "objects/"] {
        if let Some(entry) = store.list(prefix).next().await.transpose()? {
            return Err(foreign(format!("it has no store.json, but has {}", entry.key)));
        }
    }
    Ok(())
}

impl Description {
    /// As `store.json` has it.
    pub(super) fn to_bytes(&self) -> Result<Bytes, Fault> {
        let text = serde_json::to_vec_pretty(self);
        text.map(Bytes::from).map_err(|error| Fault::permanent(code::INTERNAL, format!("write store.json: {error}")))
    }
}

fn foreign(message: impl Into<String>) -> Fault {
    Fault::permanent(code::STORE_FOREIGN, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{file::FileStore, probe::LEAST};
    use tempfile::TempDir;

    async fn store() -> (TempDir, FileStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn a_store_is_founded_once_and_keeps_its_extent_size() {
        let (_directory, store) = store().await;
        assert_eq!(read(&store).await.unwrap_err().code, code::STORE_MISSING);
        let owner = Uuid::now_v7();
        let first = found(&store, 256 << 10, owner, LEAST).await.unwrap();
        let more = Capabilities { conditional_put: true, ..LEAST };
        let again = found(&store, 64 << 10, owner, more).await.unwrap();
        assert_eq!(again, Description { capabilities: more, ..first });
        assert_eq!(read(&store).await.unwrap(), again);
        assert_eq!(again.check_extent_size(Some(Size(64 << 10))).unwrap_err().code, code::SITE_INVALID);
        again.check_extent_size(Some(Size(256 << 10))).unwrap();
        again.check_extent_size(None).unwrap();
    }

    #[tokio::test]
    async fn of_many_founders_one_wins_and_the_others_are_foreign() {
        let (_directory, store) = store().await;
        let founders: Vec<_> = (0..8).map(|_| Uuid::now_v7()).collect();
        let ends = founders.iter().map(|owner| found(&store, 256 << 10, *owner, LEAST));
        let ends = futures::future::join_all(ends).await;
        assert_eq!(ends.iter().filter(|it| it.is_ok()).count(), 1);
        for fault in ends.iter().filter_map(|it| it.as_ref().err()) {
            assert_eq!(fault.code, code::STORE_FOREIGN, "{fault}");
        }
        let owner = read(&store).await.unwrap().incarnation;
        assert!(founders.contains(&owner));
    }

    #[tokio::test]
    async fn what_is_not_ours_is_refused_and_left_as_it_is() {
        let other = Description {
            format_version: FORMAT_VERSION,
            extent_size: 1 << 20,
            capabilities: LEAST,
            incarnation: Uuid::now_v7(),
            created: Timestamp(0),
        };
        let good = String::from_utf8(other.to_bytes().unwrap().to_vec()).unwrap();
        let newer = good.replace("\"format_version\": 1", "\"format_version\": 2");
        assert_ne!(good, newer);
        for content in [good, newer, "{}".to_owned(), "not json".to_owned(), String::new(), " ".repeat(70_000)] {
            let (_directory, store) = store().await;
            store.put(KEY, Bytes::from(content.clone()), PutMode::Create).await.unwrap();
            let fault = found(&store, 256 << 10, Uuid::now_v7(), LEAST).await.unwrap_err();
            assert_eq!(fault.code, code::STORE_FOREIGN, "{fault}");
            assert_eq!(store.get(KEY, 0..content.len() as u64).await.unwrap(), content);
        }
    }

    #[tokio::test]
    async fn packs_without_a_description_are_nobodys_to_take_over() {
        for key in ["packs/x/1-0", "objects/x/ready"] {
            let (_directory, store) = store().await;
            store.put(key, Bytes::new(), PutMode::Create).await.unwrap();
            let fault = found(&store, 256 << 10, Uuid::now_v7(), LEAST).await.unwrap_err();
            assert_eq!(fault.code, code::STORE_FOREIGN, "{fault}");
            assert_eq!(store.head(KEY).await.unwrap(), None);
        }
    }
}
