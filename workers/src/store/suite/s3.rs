//! What must hold of a real S3 service: tried out, used as far as it goes, and its refusals understood.

use super::run_all;
use crate::store::{
    PutMode, Store,
    description::{self, found},
    open::{attach, open},
    probe::{Capabilities, probe},
    s3::S3Store,
};
use bytes::Bytes;
use futures::TryStreamExt;
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use uuid::Uuid;

const NO_FAULT: &str = "no fault";

/// Makes the bucket of `place`, unless it is there.
pub async fn make_bucket(place: &site::Store) -> Result<(), Fault> {
    S3Store::new(place)?.make_bucket().await
}

/// Runs everything against the bucket of `place`, which must exist. Returns what was found out by `probe`; the
/// caller knows the service and compares. `wrong` are references to credentials that the service doesn't know.
pub async fn run(place: &site::Store, wrong: &site::Credentials) -> Capabilities {
    let capabilities = probe(place).await.expect("probe");
    capabilities.require().expect("all that Longshore needs");
    println!("store: {}: {capabilities:?}", place.name);
    run_all(open(place, Some(&capabilities)).await.expect("open"), capabilities.conditional_put).await;
    run_all(open(place, None).await.expect("open"), false).await;
    is_described(place, capabilities).await;
    refusals(place, wrong).await;
    capabilities
}

async fn is_described(place: &site::Store, capabilities: Capabilities) {
    let mut own = place.clone();
    own.url = format!("{}/{}", place.url.trim_end_matches('/'), Uuid::now_v7());
    let owner = Uuid::now_v7();
    assert_eq!(code_of(attach(&own, owner).await), code::STORE_MISSING);
    let store = open(&own, Some(&capabilities)).await.expect("open");
    let description = found(&*store, 256 << 10, owner, capabilities).await.expect("found");
    let (attached, read) = attach(&own, owner).await.expect("attach");
    assert_eq!(read, description);
    assert_eq!(code_of(attach(&own, Uuid::now_v7()).await), code::STORE_FOREIGN);
    attached.delete(description::KEY).await.expect("delete");
}

async fn refusals(place: &site::Store, wrong: &site::Credentials) {
    let unknown = site::Store { credentials: Some(wrong.clone()), ..place.clone() };
    let access = place.credentials.as_ref().map(|it| it.access_key.clone()).expect("credentials");
    let bad_secret = site::Credentials { access_key: access, secret_key: wrong.secret_key.clone() };
    let bad_secret = site::Store { credentials: Some(bad_secret), ..place.clone() };
    let mut no_bucket = place.clone();
    no_bucket.url = format!("s3://no-such-{}/prefix", Uuid::now_v7());
    let away = site::Store { endpoint: Some("http://127.0.0.1:1".to_owned()), ..place.clone() };
    for (place, wanted) in [
        (&unknown, code::STORE_DENIED),
        (&bad_secret, code::STORE_DENIED),
        (&no_bucket, code::STORE_MISSING),
        (&away, code::STORE_UNAVAILABLE),
    ] {
        println!("store: {wanted} is what it must be");
        let store = open(place, None).await.expect("open");
        assert_eq!(code_of(probe(place).await), wanted);
        every_request_gives(&*store, wanted).await;
    }
}

async fn every_request_gives(store: &dyn Store, wanted: &str) {
    assert_eq!(code_of(store.ping().await), wanted, "ping");
    assert_eq!(code_of(store.get("suite/x", 0..1).await), wanted, "get");
    assert_eq!(code_of(store.head("suite/x").await), wanted, "head");
    assert_eq!(code_of(store.list("suite/").try_collect::<Vec<_>>().await), wanted, "list");
    assert_eq!(code_of(store.delete("suite/x").await), wanted, "delete");
    for mode in [PutMode::Replace, PutMode::Create] {
        let put = code_of(store.put("suite/x", Bytes::from_static(b"x"), mode).await);
        // SeaweedFS makes a missing bucket for a put of an administrator, so these come last.
        let made = wanted == code::STORE_MISSING && put == NO_FAULT;
        assert!(put == wanted || made, "{mode:?}: {put}");
    }
}

fn code_of<T>(got: Result<T, Fault>) -> String {
    match got {
        Ok(_) => NO_FAULT.to_owned(),
        Err(fault) => {
            println!("store:   {fault}");
            fault.code
        }
    }
}
