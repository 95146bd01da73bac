//! A store that is a bucket, or a part of one, of a service that speaks S3.
//!
//! A body is guarded by the cheapest digest that the service was seen to check (`probe`). Each put carries a mark of its own in the metadata: after a lost answer, the service refuses the repetition of a
//! conditional put that had been done, and the mark tells it from somebody else's.

mod cause;
mod connect;
mod list;
mod range;
mod trial;

use super::{
    Entry, Put, PutMode, Store, key,
    open::Backend,
    probe::{Capabilities, Guard},
    retry::{TRIES, pause},
};
use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    client::customize::CustomizableOperation,
    config::{Builder, Config, RequestChecksumCalculation, timeout::TimeoutConfig},
    operation::put_object::{PutObjectError, PutObjectOutput, builders::PutObjectFluentBuilder},
    primitives::ByteStream,
    types::ChecksumAlgorithm,
};
use bytes::Bytes;
use cause::{Cause, cause, fault};
use futures::{StreamExt, stream::BoxStream};
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use md5::{Digest, Md5};
use range::Failed;
use std::{ops::Range, time::Duration};
use uuid::Uuid;

/// The name of the mark in an object's metadata.
const MARK: &str = "longshore-put";
/// A put may take this long, and longer by what its body takes at `SLOWEST`.
const PUT_S: u64 = 30;
/// Bytes a second; a service that is slower counts as away.
const SLOWEST: u64 = 256 << 10;

/// A store that is a bucket, or a part of one.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
    capabilities: Capabilities,
}

/// The bucket of a place whose url is `s3://bucket/prefix`.
pub(super) async fn backend(place: &site::Store) -> Result<Box<dyn Backend>, Fault> {
    Ok(Box::new(S3Store::new(place)?))
}

impl S3Store {
    /// Makes a client, resolves the credentials, and sends nothing yet. Until `with` says that the service can
    /// do better, creating is a check followed by a put.
    pub fn new(place: &site::Store) -> Result<S3Store, Fault> {
        connect::connect(place)
    }

    /// The same store and connections, used as far as `capabilities` go.
    pub fn with(mut self, capabilities: Capabilities) -> S3Store {
        self.capabilities = capabilities;
        self
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The service's answer about the key; absence isn't told from that of the bucket.
    async fn look(&self, key: &str) -> Result<Option<aws_sdk_s3::operation::head_object::HeadObjectOutput>, Fault> {
        match self.client.head_object().bucket(&self.bucket).key(self.path(key)).send().await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match cause(&error) {
                Cause::NoKey => Ok(None),
                other => Err(fault(format!("look for {key}"), other, &error)),
            },
        }
    }

    async fn is_marked(&self, key: &str, mark: &str) -> Result<bool, Fault> {
        let found = self.look(key).await?;
        Ok(found.is_some_and(|it| it.metadata().and_then(|it| it.get(MARK)).is_some_and(|it| it == mark)))
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        key::check(key)?;
        let conditional = mode == PutMode::Create && self.capabilities.conditional_put;
        if mode == PutMode::Create && !conditional && self.look(key).await?.is_some() {
            return Ok(Put::Existed);
        }
        let mark = Uuid::now_v7().to_string();
        let limit = Duration::from_secs(PUT_S + body.len() as u64 / SLOWEST);
        let limits = TimeoutConfig::builder().operation_attempt_timeout(limit).build();
        let mut tries = 1;
        loop {
            let request = self.client.put_object().bucket(&self.bucket).key(self.path(key)).metadata(MARK, &mark);
            let request = request.set_if_none_match(conditional.then(|| "*".to_owned()));
            let config = Config::builder().timeout_config(limits.clone());
            let error = match guarded(request, body.clone(), self.capabilities.guard(), config).await?.send().await {
                Ok(_) => return Ok(Put::Written),
                Err(error) => error,
            };
            match cause(&error) {
                Cause::Exists if conditional => {
                    return Ok(if self.is_marked(key, &mark).await? { Put::Written } else { Put::Existed });
                }
                Cause::Conflict | Cause::Damaged if tries < TRIES => pause(tries).await,
                other => return Err(fault(format!("write {key}"), other, &error)),
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
                    tracing::debug!(store.bucket = %self.bucket, key, tries, %fault, "read again");
                    pause(tries).await;
                }
                Err(Failed::BrokeOff(fault) | Failed::Said(fault)) => return Err(fault),
            }
            tries += 1;
        }
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        key::check(key)?;
        let Some(found) = self.look(key).await? else {
            // An answer to HEAD has no body that would tell a missing key from a missing bucket.
            self.ping().await?;
            return Ok(None);
        };
        let bytes = found.content_length().and_then(|it| u64::try_from(it).ok());
        let bytes = bytes.ok_or_else(|| misbehaved(format!("look for {key}: the store gave no length")))?;
        let modified_ms = found.last_modified().and_then(|it| it.to_millis().ok()).unwrap_or(0);
        Ok(Some(Entry { key: key.to_owned(), bytes, modified_ms }))
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        list::list(self, prefix.to_owned()).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        key::check(key)?;
        if let Err(error) = self.client.delete_object().bucket(&self.bucket).key(self.path(key)).send().await {
            match cause(&error) {
                Cause::NoKey => return Ok(()),
                other => return Err(fault(format!("delete {key}"), other, &error)),
            }
        }
        match self.look(key).await? {
            None => Ok(()),
            Some(_) => Err(Fault::transient(
                code::STORE_UNAVAILABLE,
                format!("delete {key}: the store says that it is deleted, and still has it"),
            )),
        }
    }

    async fn unfinished(&self, _prefix: &str) -> Result<Vec<Entry>, Fault> {
        // A body is one request, never a multipart upload: the service keeps nothing of one that broke off.
        Ok(vec![])
    }

    async fn discard_unfinished(&self, _key: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), Fault> {
        // Its errors have a body, unlike those of HEAD, so they tell what is wrong.
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix).max_keys(1);
        request.send().await.map(drop).map_err(|error| fault(format!("look into bucket {}", self.bucket), cause(&error), &error))
    }
}

type PutRequest = CustomizableOperation<PutObjectOutput, PutObjectError, PutObjectFluentBuilder>;

/// The request with its body and what tells the service that the body isn't the one that was sent.
async fn guarded(request: PutObjectFluentBuilder, body: Bytes, guard: Guard, config: Builder) -> Result<PutRequest, Fault> {
    let md5 = match guard {
        Guard::Crc64 | Guard::Sha256 => None,
        Guard::Md5 | Guard::Any => Some(md5_of(body.clone()).await?),
    };
    let request = request.set_content_md5(md5).body(ByteStream::from(body));
    Ok(match guard {
        Guard::Crc64 => {
            let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
            let request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).customize();
            request.config_override(config).disable_payload_signing()
        }
        Guard::Md5 => request.customize().config_override(config).disable_payload_signing(),
        Guard::Sha256 | Guard::Any => request.customize().config_override(config),
    })
}

async fn md5_of(body: Bytes) -> Result<String, Fault> {
    let digest = tokio::task::spawn_blocking(move || aws_smithy_types::base64::encode(Md5::digest(&body))).await;
    digest.map_err(|error| Fault::transient(code::INTERNAL, format!("compute an MD5: {error}")))
}

fn misbehaved(message: String) -> Fault {
    Fault::permanent(code::STORE_MISBEHAVED, message)
}

#[cfg(test)]
mod tests;
