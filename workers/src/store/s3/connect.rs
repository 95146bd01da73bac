//! From the site file's entry to a client: one connection pool for each store, made here and nowhere else.

use super::S3Store;
use crate::{secret, store::key, store::probe::Capabilities};
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig,
        retry::{RetryConfig, RetryPartition},
        timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
/// From a request to the head of its answer; puts have a limit of their own.
const ANSWER: Duration = Duration::from_secs(60);
/// A body that brings nothing for so long has broken off.
const STALLED: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) fn connect(place: &site::Store) -> Result<S3Store, Fault> {
    let (bucket, prefix) = bucket_and_prefix(place)?;
    let Some(references) = &place.credentials else {
        return Err(Fault::permanent(code::STORE_DENIED, format!("store {} has no credentials", place.name)));
    };
    let access = secret::resolve(&references.access_key)?;
    let secret = secret::resolve(&references.secret_key)?;
    let region = match (&place.signing_region, &place.endpoint) {
        (Some(region), _) => region.clone(),
        (None, Some(_)) => "us-east-1".to_owned(),
        (None, None) => return Err(invalid(place, "give it an `endpoint`, or the `signing_region` of AWS")),
    };
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(Credentials::new(access.expose(), secret.expose(), None, None, "site"))
        .force_path_style(place.path_style)
        // Many services refuse, or ignore, the checksums that the SDK would add by itself.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .http_client(aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ANSWER).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALLED).build())
        .retry_config(
            RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_PAUSE).with_max_backoff(LONGEST_PAUSE),
        )
        // Else one store's outage would use up the retries of all others.
        .retry_partition(RetryPartition::new(format!("store-{}", place.name)));
    if let Some(endpoint) = &place.endpoint {
        config = config.endpoint_url(checked_endpoint(place, endpoint)?);
    }
    let client = Client::from_conf(config.build());
    Ok(S3Store { client, bucket, prefix, capabilities: Capabilities::default() })
}

fn bucket_and_prefix(place: &site::Store) -> Result<(String, String), Fault> {
    let rest = place.url.strip_prefix("s3://").ok_or_else(|| invalid(place, "url is s3://bucket/prefix"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_bucket = bucket.len() >= 3
        && bucket.len() <= 255
        && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !bucket.starts_with('.');
    if !is_bucket {
        return Err(invalid(place, "url does not name a bucket"));
    }
    let prefix = key::prefix_of_url(prefix).ok_or_else(|| invalid(place, "the prefix in its url is not a plain path"))?;
    Ok((bucket.to_owned(), prefix))
}

fn checked_endpoint<'a>(place: &site::Store, endpoint: &'a str) -> Result<&'a str, Fault> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let plain = rest.is_some_and(|it| !it.is_empty() && !it.contains(['@', '?', '#']) && !it.contains(char::is_whitespace));
    plain.then_some(endpoint).ok_or_else(|| invalid(place, "endpoint is http:// or https:// and a host, without a password"))
}

fn invalid(place: &site::Store, why: &str) -> Fault {
    Fault::permanent(code::SITE_INVALID, format!("store {}: {why}", place.name))
}
