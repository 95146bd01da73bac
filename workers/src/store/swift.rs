//! A store that is a container, or a part of one, of OpenStack's Swift.
//!
//! A body is one object, far below Swift's 5 GiB, so there are no segments. Its MD5 goes with it and comes back. A create is a look
//! followed by a put with `If-None-Match: *`, which Swift checks before it reads the body and not when it is written. Each put
//! carries a mark of its own: after a lost answer it tells one's own work from somebody else's.

mod cause;
mod client;
mod list;
mod login;
mod range;
mod requests;
mod session;
mod trial;

use super::{
    Entry, Put, PutMode, Store, key,
    open::Backend,
    retry::{TRIES, pause},
};
use async_trait::async_trait;
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use cause::{Cause, Failure};
use client::{Answer, Http};
use futures::{StreamExt, stream::BoxStream};
use hyper::{Method, StatusCode};
use login::Login;
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use md5::{Digest, Md5};
use range::Failed;
use requests::{Asked, Requests};
use session::Sessions;
use std::{ops::Range, sync::Arc, time::Duration};
use uuid::Uuid;

/// The header of the mark in an object's metadata.
const MARK: &str = "x-object-meta-longshore-put";
/// A put may take this long, and longer by what its body takes at `SLOWEST`.
const PUT_S: u64 = 30;
/// Bytes a second; a service that is slower counts as away.
const SLOWEST: u64 = 256 << 10;

/// A store that is a container, or a part of one.
#[derive(Debug, Clone)]
pub struct SwiftStore {
    requests: Arc<Requests>,
    /// Empty, or ends in `/`.
    prefix: String,
}

/// What is known of an object without reading it.
struct Found {
    bytes: u64,
    modified_ms: i64,
    mark: Option<String>,
}

/// The container of a place whose url is `swift://container/prefix`.
pub(super) async fn backend(place: &site::Store) -> Result<Box<dyn Backend>, Fault> {
    Ok(Box::new(SwiftStore::new(place)?))
}

impl SwiftStore {
    /// Makes a client, resolves the key, and sends nothing yet.
    pub fn new(place: &site::Store) -> Result<SwiftStore, Fault> {
        let swift = place.swift()?;
        let prefix = key::prefix_of_url(swift.prefix).ok_or_else(|| {
            Fault::permanent(code::SITE_INVALID, format!("store {}: the prefix in its url is not a plain path", place.name))
        })?;
        let http = Http::new()?;
        let sessions = Sessions::new(http.clone(), Login::new(&swift)?);
        let requests = Requests { http, sessions, container: swift.container.to_owned() };
        Ok(SwiftStore { requests: Arc::new(requests), prefix })
    }

    /// Where a key is, below the container. Neither keys nor prefixes have what an address would have to encode.
    fn below(&self, key: &str) -> String {
        format!("/{}{key}", self.prefix)
    }

    /// What the container says of itself.
    async fn container(&self, doing: &str) -> Result<Answer, Fault> {
        self.requests.send(&Asked::new(Method::HEAD, "")).await.map_err(|failure| match failure.cause {
            Cause::Absent => self.no_container(doing, failure),
            _ => failure.fault(doing),
        })
    }

    fn no_container(&self, doing: &str, failure: Failure) -> Fault {
        let fault = failure.fault(doing);
        Fault::permanent(code::STORE_MISSING, format!("{}: there is no container {}", fault.message, self.requests.container))
    }

    /// The fault of what isn't there, which is either the key or the whole container: Swift doesn't say.
    async fn absent(&self, doing: &str, failure: Failure) -> Fault {
        self.container(doing).await.err().unwrap_or_else(|| failure.fault(doing))
    }

    /// What is there by now: of all copies, the newest. Absence isn't told from that of the container.
    async fn look(&self, key: &str) -> Result<Option<Found>, Fault> {
        let doing = format!("look for {key}");
        let answer = match self.requests.send(&Asked::new(Method::HEAD, self.below(key)).header("x-newest", "true")).await {
            Ok(answer) => answer,
            Err(failure) if failure.cause == Cause::Absent => return Ok(None),
            Err(failure) => return Err(failure.fault(doing)),
        };
        let bytes = answer.length().ok_or_else(|| misbehaved(format!("{doing}: the store gave no length")))?;
        let exact = answer.header("x-timestamp").and_then(|it| millis(it, Format::EpochSeconds));
        let modified_ms = exact.or_else(|| answer.header("last-modified").and_then(|it| millis(it, Format::HttpDate)));
        // Not guessed: what is old enough is swept.
        let modified_ms = modified_ms.ok_or_else(|| misbehaved(format!("{doing}: the store gave no time")))?;
        Ok(Some(Found { bytes, modified_ms, mark: answer.header(MARK).map(str::to_owned) }))
    }
}

#[async_trait]
impl Store for SwiftStore {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        key::check(key)?;
        if mode == PutMode::Create && self.look(key).await?.is_some() {
            return Ok(Put::Existed);
        }
        let doing = format!("write {key}");
        let (mark, digest, limit) = (Uuid::now_v7().to_string(), hex_md5(body.clone()).await?, put_limit(&body));
        let mut asked = Asked::new(Method::PUT, self.below(key)).header("content-type", "application/octet-stream");
        asked = asked.header("etag", &digest).header(MARK, &mark).body(body, limit);
        if mode == PutMode::Create {
            asked = asked.header("if-none-match", "*");
        }
        let mut tries = 1;
        loop {
            let failure = match self.requests.send(&asked).await {
                // So it says where something newer is, and leaves that there.
                Ok(answer) if answer.status == StatusCode::ACCEPTED => answer.failure().await,
                Ok(answer) => match answer.header("etag").map(|it| it.trim_matches('"')) {
                    Some(kept) if !kept.eq_ignore_ascii_case(&digest) => {
                        return Err(misbehaved(format!("{doing}: the store says that it has a body with the MD5 {kept:?}")));
                    }
                    Some(_) | None => return Ok(Put::Written),
                },
                Err(failure) => failure,
            };
            match failure.cause {
                Cause::Exists if mode == PutMode::Create => {
                    let found = self.look(key).await?;
                    let ours = found.and_then(|it| it.mark).is_some_and(|it| it == mark);
                    return Ok(if ours { Put::Written } else { Put::Existed });
                }
                Cause::Conflict | Cause::Damaged if tries < TRIES => pause(tries).await,
                Cause::Absent => return Err(self.no_container(&doing, failure)),
                _ => return Err(failure.fault(doing)),
            }
            tries += 1;
        }
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        key::check(key)?;
        if range.start >= range.end {
            // HTTP has no empty ranges.
            let found = self.head(key).await?;
            return match found {
                Some(found) if range.start == range.end && range.end <= found.bytes => Ok(Bytes::new()),
                _ => Err(Fault::permanent(code::OBJECT_MISSING, format!("read {key}: no bytes {range:?} there"))),
            };
        }
        let mut tries = 1;
        loop {
            match range::get(self, key, range.clone()).await {
                Ok(body) => return Ok(body),
                Err(Failed::BrokeOff(fault)) if tries < TRIES => {
                    tracing::debug!(store.container = %self.requests.container, key, tries, %fault, "read again");
                    pause(tries).await;
                }
                Err(Failed::BrokeOff(fault) | Failed::Said(fault)) => return Err(fault),
            }
            tries += 1;
        }
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        key::check(key)?;
        match self.look(key).await? {
            Some(Found { bytes, modified_ms, .. }) => Ok(Some(Entry { key: key.to_owned(), bytes, modified_ms })),
            None => self.container(&format!("look for {key}")).await.map(|_| None),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        list::list(self, prefix.to_owned()).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        key::check(key)?;
        let doing = format!("delete {key}");
        match self.requests.send(&Asked::new(Method::DELETE, self.below(key))).await {
            Ok(_) => (),
            Err(failure) if failure.cause == Cause::Absent => return self.container(&doing).await.map(drop),
            Err(failure) => return Err(failure.fault(doing)),
        }
        match self.look(key).await? {
            None => Ok(()),
            Some(_) => Err(Fault::transient(
                code::STORE_UNAVAILABLE,
                format!("{doing}: the store says that it is deleted, and still has it"),
            )),
        }
    }

    async fn unfinished(&self, _prefix: &str) -> Result<Vec<Entry>, Fault> {
        // A body is one request, never segments and a manifest: Swift keeps nothing of one that broke off.
        Ok(vec![])
    }

    async fn discard_unfinished(&self, _key: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.container(&format!("look into container {}", self.requests.container)).await.map(drop)
    }
}

fn put_limit(body: &Bytes) -> Duration {
    Duration::from_secs(PUT_S + body.len() as u64 / SLOWEST)
}

async fn hex_md5(body: Bytes) -> Result<String, Fault> {
    let digest = tokio::task::spawn_blocking(move || Md5::digest(&body)).await;
    let digest = digest.map_err(|error| Fault::transient(code::INTERNAL, format!("compute an MD5: {error}")))?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A time of a listing, which is UTC.
fn modified_ms(text: &str) -> Option<i64> {
    millis(text, Format::DateTime)
}

fn millis(text: &str, format: Format) -> Option<i64> {
    DateTime::from_str(text, format).ok()?.to_millis().ok()
}

fn misbehaved(message: String) -> Fault {
    Fault::permanent(code::STORE_MISBEHAVED, message)
}

#[cfg(test)]
mod tests;
