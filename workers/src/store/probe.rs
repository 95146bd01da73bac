//! What a store really does, tried out at `site apply`: what services say of themselves isn't what they do.
//! Works below `probe/{uuid}/` and leaves nothing there.

use super::{Put, PutMode, Store, open};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all};
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};
use uuid::Uuid;

/// What a store was seen to do. All `false` is what may be assumed of any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// A put can create and never replaces, also when many race.
    pub conditional_put: bool,
    /// A get of a range gives that range.
    pub ranges: bool,
    /// After a put that replaced, everything reads the new body.
    pub overwrite_visible: bool,
    /// A list begun after a put has the key, with its length.
    pub list_after_put: bool,
    /// After a delete the key is neither read nor listed.
    pub delete_visible: bool,
    /// A body that isn't the one whose SHA-256 was signed is refused, and not kept.
    pub checks_sha256: bool,
    /// A body that doesn't have the MD5 that was sent is refused, and not kept.
    pub checks_md5: bool,
    /// A body that doesn't have the CRC-64/NVME that was sent is refused, and not kept.
    pub checks_crc64: bool,
    /// Multipart uploads can be begun, listed and aborted.
    pub multipart: bool,
    /// Deleted objects stay as old versions: deleting gives no space back.
    pub keeps_versions: bool,
}

/// What `require` asks for and no more.
#[cfg(test)]
pub(super) const LEAST: Capabilities = Capabilities {
    conditional_put: false,
    ranges: true,
    overwrite_visible: true,
    list_after_put: true,
    delete_visible: true,
    checks_sha256: false,
    checks_md5: false,
    checks_crc64: false,
    multipart: false,
    keeps_versions: false,
};

/// What tells a store that a body isn't the one that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// CRC-64/NVME, which costs next to nothing. The body isn't signed.
    Crc64,
    /// The signed SHA-256.
    Sha256,
    /// MD5. The body isn't signed.
    Md5,
    /// It isn't known to check anything, so it is sent both SHA-256 and MD5.
    Any,
}

impl Capabilities {
    /// The cheapest that works here.
    pub fn guard(&self) -> Guard {
        match (self.checks_crc64, self.checks_sha256, self.checks_md5) {
            (true, _, _) => Guard::Crc64,
            (false, true, _) => Guard::Sha256,
            (false, false, true) => Guard::Md5,
            (false, false, false) => Guard::Any,
        }
    }

    /// Whether a body that was damaged on its way is refused, by one digest or the other.
    pub fn checks_bodies(&self) -> bool {
        self.guard() != Guard::Any
    }

    /// `store.misbehaved`, naming what Longshore can't do without, unless all of that is there.
    pub fn require(&self) -> Result<(), Fault> {
        let needed = [
            ("ranged reads", self.ranges),
            ("reads of what was just overwritten", self.overwrite_visible),
            ("lists of what was just put", self.list_after_put),
            ("deletes that last", self.delete_visible),
        ];
        let missing: Vec<_> = needed.iter().filter(|(_, has)| !has).map(|(what, _)| *what).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(misbehaved(format!("the store does not do {}, as was tried out", missing.join(", nor ")))),
        }
    }
}

const RACES: usize = 5;
const RACERS: usize = 8;

/// Tries out a store of the site file. A fault means that it couldn't be tried: denied, missing, away.
pub async fn probe(place: &site::Store) -> Result<Capabilities, Fault> {
    let backend = open::backend(place).await?;
    let scratch = scratch();
    // It says that it can, so that the condition is sent; the race tells what comes of it.
    let trusted = backend.store(Capabilities { conditional_put: true, ..Capabilities::default() });
    let tried = match try_any(&*trusted, &scratch).await {
        Ok(tried) => backend.try_out(&scratch, tried).await,
        Err(fault) => Err(fault),
    };
    let cleaned = clean(&*trusted, &scratch).await;
    tried.and_then(|tried| cleaned.map(|()| tried))
}

fn scratch() -> String {
    format!("probe/{}/", Uuid::now_v7())
}

async fn clean(store: &dyn Store, scratch: &str) -> Result<(), Fault> {
    let left: Vec<_> = store.list(scratch).try_collect().await?;
    for entry in left {
        store.delete(&entry.key).await?;
    }
    Ok(())
}

/// What can be tried with nothing but the store's own interface.
async fn try_any(store: &dyn Store, scratch: &str) -> Result<Capabilities, Fault> {
    store.ping().await?;
    Ok(Capabilities {
        overwrite_visible: decided(overwrites(store, &format!("{scratch}overwritten")).await)?,
        ranges: decided(ranges(store, &format!("{scratch}ranges")).await)?,
        conditional_put: decided(creates(store, &format!("{scratch}created")).await)?,
        list_after_put: decided(lists(store, scratch).await)?,
        delete_visible: decided(deletes(store, scratch).await)?,
        ..Capabilities::default()
    })
}

/// A wrong answer is an answer: the store can't do it. No answer, or no permission, is a fault.
fn decided(tried: Result<bool, Fault>) -> Result<bool, Fault> {
    match tried {
        Err(fault) if [code::STORE_MISBEHAVED, code::OBJECT_MISSING].contains(&fault.code.as_str()) => Ok(false),
        tried => tried,
    }
}

async fn has(store: &dyn Store, key: &str, body: &Bytes) -> Result<bool, Fault> {
    let bytes = body.len() as u64;
    let length_fits = store.head(key).await?.is_some_and(|it| it.bytes == bytes);
    Ok(length_fits && store.get(key, 0..bytes).await? == *body)
}

async fn overwrites(store: &dyn Store, key: &str) -> Result<bool, Fault> {
    for body in ["first", "second, and longer", "3rd"].map(Bytes::from) {
        if store.put(key, body.clone(), PutMode::Replace).await? != Put::Written || !has(store, key, &body).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn ranges(store: &dyn Store, key: &str) -> Result<bool, Fault> {
    let body: Vec<u8> = (0..10_000_u32).map(|it| (it * 7 % 251) as u8).collect();
    let end = body.len() as u64;
    store.put(key, Bytes::from(body.clone()), PutMode::Replace).await?;
    for range in [0..1, 0..end, 1..2, 4095..4097, 255..9000, end - 1..end] {
        let wanted = &body[range.start as usize..range.end as usize];
        if store.get(key, range).await? != wanted {
            return Ok(false);
        }
    }
    let past: [Range<u64>; 2] = [end - 1..end + 1, end..end + 1];
    for range in past {
        match store.get(key, range).await {
            Err(fault) if fault.code == code::OBJECT_MISSING => (),
            Err(fault) => return Err(fault),
            Ok(_) => return Ok(false),
        }
    }
    Ok(true)
}

async fn creates(store: &dyn Store, key: &str) -> Result<bool, Fault> {
    for race in 0..RACES {
        let key = format!("{key}-{race}");
        let puts = (0..RACERS).map(|racer| store.put(&key, body_of(racer), PutMode::Create));
        let puts = try_join_all(puts).await?;
        let winners: Vec<_> = (0..RACERS).filter(|racer| puts[*racer] == Put::Written).collect();
        let &[winner] = winners.as_slice() else { return Ok(false) };
        if store.put(&key, Bytes::from_static(b"late"), PutMode::Create).await? != Put::Existed
            || !has(store, &key, &body_of(winner)).await?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn body_of(racer: usize) -> Bytes {
    Bytes::from(format!("written by {racer}").repeat(100 + racer))
}

async fn listed(store: &dyn Store, prefix: &str) -> Result<BTreeMap<String, u64>, Fault> {
    store.list(prefix).map(|it| it.map(|it| (it.key, it.bytes))).try_collect().await
}

async fn lists(store: &dyn Store, scratch: &str) -> Result<bool, Fault> {
    let wanted: BTreeMap<_, _> = (0..5).map(|n| (format!("{scratch}list/{n}"), n)).collect();
    for (key, bytes) in &wanted {
        store.put(key, Bytes::from(vec![0; *bytes as usize]), PutMode::Replace).await?;
    }
    Ok(listed(store, &format!("{scratch}list/")).await? == wanted)
}

async fn deletes(store: &dyn Store, scratch: &str) -> Result<bool, Fault> {
    let (key, other) = (format!("{scratch}gone/a"), format!("{scratch}gone/b"));
    for key in [&key, &other] {
        store.put(key, Bytes::from_static(b"x"), PutMode::Replace).await?;
    }
    store.delete(&key).await?;
    store.delete(&key).await?;
    let left = listed(store, &format!("{scratch}gone/")).await?;
    Ok(store.head(&key).await?.is_none() && left.keys().eq([&other]))
}

fn misbehaved(message: String) -> Fault {
    Fault::permanent(code::STORE_MISBEHAVED, message)
}

#[cfg(test)]
mod tests;
