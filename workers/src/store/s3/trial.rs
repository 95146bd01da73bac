//! What only S3 services can or can't do, tried out for `probe`.

use super::{MARK, S3Store, cause::Cause, cause::cause, cause::fault, guarded};
use crate::store::{
    Store,
    open::Backend,
    probe::{Capabilities, Guard},
};
use async_trait::async_trait;
use aws_sdk_s3::{
    config::{Config, ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut},
    error::BoxError,
    primitives::{ByteStream, SdkBody},
    types::BucketVersioningStatus,
};
use bytes::Bytes;
use longshore_schema::fault::Fault;
use std::sync::Arc;

/// Exchanges the body after it was signed, as damage on the way would.
#[derive(Debug)]
struct Damage(Bytes);

// The macro that the SDK's own interceptors carry only tells it which hooks to skip.
impl Intercept for Damage {
    fn name(&self) -> &'static str {
        "Damage"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut().body_mut() = SdkBody::from(self.0.clone());
        Ok(())
    }
}

#[async_trait]
impl Backend for S3Store {
    fn store(&self, capabilities: Capabilities) -> Arc<dyn Store> {
        Arc::new(self.clone().with(capabilities))
    }

    async fn try_out(&self, scratch: &str, tried: Capabilities) -> Result<Capabilities, Fault> {
        Ok(Capabilities {
            checks_sha256: self.refuses_damage(&format!("{scratch}sha256"), Guard::Sha256).await?,
            checks_md5: self.refuses_damage(&format!("{scratch}md5"), Guard::Md5).await?,
            checks_crc64: self.refuses_damage(&format!("{scratch}crc64"), Guard::Crc64).await?,
            multipart: self.has_multipart(&format!("{scratch}multipart")).await?,
            keeps_versions: self.keeps_versions().await,
            ..tried
        })
    }
}

impl S3Store {
    /// Whether a body that is guarded like that is taken, and refused if it was damaged on the way. A service that
    /// refuses both knows nothing of this guard, or forbids it. One that refuses the damaged body and keeps it all the
    /// same has checked nothing that could be relied upon: whoever reads the key has it.
    pub(super) async fn refuses_damage(&self, key: &str, guard: Guard) -> Result<bool, Fault> {
        let damaged = format!("{key}-damaged");
        if !self.takes(&format!("{key}-good"), guard, false).await? || self.takes(&damaged, guard, true).await? {
            return Ok(false);
        }
        let kept = self.look(&damaged).await?.is_some();
        if kept {
            self.delete(&damaged).await?;
        }
        Ok(!kept)
    }

    async fn takes(&self, key: &str, guard: Guard, damaged: bool) -> Result<bool, Fault> {
        let (good, bad) = (Bytes::from(vec![1; 4096]), Bytes::from(vec![2; 4096]));
        let request = self.client.put_object().bucket(&self.bucket).key(self.path(key)).metadata(MARK, "probe");
        let mut request = guarded(request, good, guard, Config::builder()).await?;
        if damaged {
            request = request.interceptor(Damage(bad));
        }
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) => match cause(&error) {
                Cause::Damaged | Cause::Odd | Cause::Denied => Ok(false),
                other => Err(fault("try out a guarded put".to_owned(), other, &error)),
            },
        }
    }

    /// Whether a multipart upload can be begun, filled, listed and aborted. Leaves none behind.
    async fn has_multipart(&self, key: &str) -> Result<bool, Fault> {
        let path = self.path(key);
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(&path).send().await;
        let Some(upload) = begun.ok().and_then(|it| it.upload_id) else { return Ok(false) };
        let part = self.client.upload_part().bucket(&self.bucket).key(&path).upload_id(&upload).part_number(1);
        let part = part.body(ByteStream::from_static(b"part")).send().await;
        let parts = self.client.list_parts().bucket(&self.bucket).key(&path).upload_id(&upload).send().await;
        let listed = parts.is_ok_and(|it| it.parts().len() == 1);
        let aborted = self.client.abort_multipart_upload().bucket(&self.bucket).key(&path).upload_id(&upload).send().await;
        let aborted = match aborted {
            Ok(_) => true,
            Err(error) => return Err(fault("abort a multipart upload".to_owned(), cause(&error), &error)),
        };
        Ok(part.is_ok() && listed && aborted)
    }

    /// Makes the bucket, unless it is there.
    #[cfg(any(test, feature = "suite"))]
    pub(in crate::store) async fn make_bucket(&self) -> Result<(), Fault> {
        match self.client.create_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) => match aws_sdk_s3::error::ProvideErrorMetadata::code(&error) {
                Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists") => Ok(()),
                _ => Err(fault(format!("make bucket {}", self.bucket), cause(&error), &error)),
            },
        }
    }

    /// Whether the bucket keeps old versions, so that a delete gives no space back.
    async fn keeps_versions(&self) -> bool {
        // Services without versions answer in many ways that they have none.
        let answer = self.client.get_bucket_versioning().bucket(&self.bucket).send().await;
        answer.is_ok_and(|it| it.status() == Some(&BucketVersioningStatus::Enabled))
    }
}
