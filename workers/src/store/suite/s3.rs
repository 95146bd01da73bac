//! What must hold of a real S3 service: tried out, used as far as it goes, and its refusals understood.

use super::{run_all, service};
use crate::store::{open::open, probe::Capabilities, s3::S3Store};
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use uuid::Uuid;

/// Makes the bucket of `place`, unless it is there.
pub async fn make_bucket(place: &site::Store) -> Result<(), Fault> {
    S3Store::new(place)?.make_bucket().await
}

/// Runs everything against the bucket of `place`, which must exist. Returns what was found out by `probe`; the
/// caller knows the service and compares. `wrong` are references to credentials that the service doesn't know.
pub async fn run(place: &site::Store, wrong: &site::Credentials) -> Capabilities {
    let capabilities = service::tried(place).await;
    run_all(open(place, Some(&capabilities)).await.expect("open"), capabilities.conditional_put).await;
    run_all(open(place, None).await.expect("open"), false).await;
    service::is_described(place, capabilities).await;
    let unknown = site::Store { credentials: Some(wrong.clone()), ..place.clone() };
    let access = place.credentials.as_ref().map(|it| it.access_key.clone()).expect("credentials");
    let bad_secret = site::Credentials { access_key: access, secret_key: wrong.secret_key.clone() };
    let bad_secret = site::Store { credentials: Some(bad_secret), ..place.clone() };
    let no_bucket = site::Store { url: format!("s3://no-such-{}/prefix", Uuid::now_v7()), ..place.clone() };
    let away = site::Store { endpoint: Some("http://127.0.0.1:1".to_owned()), ..place.clone() };
    for (place, wanted) in [
        (&unknown, code::STORE_DENIED),
        (&bad_secret, code::STORE_DENIED),
        (&no_bucket, code::STORE_MISSING),
        (&away, code::STORE_UNAVAILABLE),
    ] {
        service::refuses(place, wanted).await;
    }
    capabilities
}
