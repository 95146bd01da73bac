//! What must hold of every service that a store may be: it describes itself, and its refusals are understood.

use crate::store::{
    PutMode, Store,
    description::{self, found},
    open::{attach, open},
    probe::{Capabilities, probe},
};
use bytes::Bytes;
use futures::TryStreamExt;
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use uuid::Uuid;

const NO_FAULT: &str = "no fault";

/// What was found out about it, if that is enough.
pub(super) async fn tried(place: &site::Store) -> Capabilities {
    let capabilities = probe(place).await.expect("probe");
    capabilities.require().expect("all that Longshore needs");
    println!("store: {}: {capabilities:?}", place.name);
    capabilities
}

/// It is founded once, and attached to by its owner only.
pub(super) async fn is_described(place: &site::Store, capabilities: Capabilities) {
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

/// All that is asked of this place gives that fault.
pub(super) async fn refuses(place: &site::Store, wanted: &str) {
    println!("store: {wanted} is what it must be");
    let store = open(place, None).await.expect("open");
    assert_eq!(code_of(probe(place).await), wanted);
    every_request_gives(&*store, wanted).await;
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
