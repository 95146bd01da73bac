//! What only a Swift can or can't do, tried out for `probe`.

use super::{MARK, SwiftStore, cause::Cause, hex_md5, put_limit, requests::Asked};
use crate::store::{Store, open::Backend, probe::Capabilities};
use async_trait::async_trait;
use bytes::Bytes;
use hyper::Method;
use longshore_schema::fault::Fault;
use std::sync::Arc;

/// Headers of a container that keeps what was replaced or deleted: two old ways, and the new one.
const VERSIONS: [&str; 3] = ["x-history-location", "x-versions-location", "x-versions-enabled"];

#[async_trait]
impl Backend for SwiftStore {
    fn store(&self, _capabilities: Capabilities) -> Arc<dyn Store> {
        // One digest is always sent, and what is created is always looked for first.
        Arc::new(self.clone())
    }

    async fn try_out(&self, scratch: &str, tried: Capabilities) -> Result<Capabilities, Fault> {
        Ok(Capabilities {
            // Whatever the race came to: Swift looks, then writes, and of those that wrote at once the latest counts.
            conditional_put: false,
            checks_md5: self.refuses_damage(&format!("{scratch}md5")).await?,
            keeps_versions: self.keeps_versions().await?,
            ..tried
        })
    }
}

impl SwiftStore {
    /// Whether a body is taken with its own MD5, and with that of another one neither taken nor kept.
    pub(super) async fn refuses_damage(&self, key: &str) -> Result<bool, Fault> {
        let (good, bad) = (Bytes::from(vec![1; 4096]), Bytes::from(vec![2; 4096]));
        let digest = hex_md5(good.clone()).await?;
        let damaged = format!("{key}-damaged");
        if !self.takes(&format!("{key}-good"), good, &digest).await? || self.takes(&damaged, bad, &digest).await? {
            return Ok(false);
        }
        let kept = self.look(&damaged).await?.is_some();
        if kept {
            self.delete(&damaged).await?;
        }
        Ok(!kept)
    }

    async fn takes(&self, key: &str, body: Bytes, digest: &str) -> Result<bool, Fault> {
        let limit = put_limit(&body);
        let asked = Asked::new(Method::PUT, self.below(key)).header("etag", digest).header(MARK, "probe").body(body, limit);
        match self.requests.send(&asked).await {
            Ok(_) => Ok(true),
            Err(failure) if [Cause::Damaged, Cause::Odd].contains(&failure.cause) => Ok(false),
            Err(failure) => Err(failure.fault("try out a guarded put")),
        }
    }

    /// Whether the container keeps old versions, so that a delete gives no space back.
    async fn keeps_versions(&self) -> Result<bool, Fault> {
        let answer = self.container("ask whether old versions are kept").await?;
        Ok(VERSIONS.iter().any(|name| answer.header(name).is_some_and(|it| !it.eq_ignore_ascii_case("false"))))
    }

    /// Makes the container, unless it is there. With a quota, if that is to be tried.
    #[cfg(any(test, feature = "suite"))]
    pub(in crate::store) async fn make_container(&self, quota: Option<u64>) -> Result<(), Fault> {
        let mut asked = Asked::new(Method::PUT, "").body(Bytes::new(), put_limit(&Bytes::new()));
        if let Some(bytes) = quota {
            asked = asked.header("x-container-meta-quota-bytes", bytes.to_string());
        }
        self.requests.send(&asked).await.map(drop).map_err(|failure| failure.fault("make a container"))
    }
}
