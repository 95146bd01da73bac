//! What must hold of a real Swift: tried out, used as far as it goes, and its refusals understood.

use super::{run_all, run_full, service};
use crate::store::{open::open, probe::Capabilities, swift::SwiftStore};
use longshore_schema::{
    fault::{Fault, code},
    site,
};
use std::sync::Arc;
use uuid::Uuid;

/// Makes the container of `place`, unless it is there.
pub async fn make_container(place: &site::Store) -> Result<(), Fault> {
    SwiftStore::new(place)?.make_container(None).await
}

/// Runs everything that every store must do against the container of `place`, which must exist. Returns what was found out by
/// `probe`; the caller knows the service and compares.
pub async fn run(place: &site::Store) -> Capabilities {
    let capabilities = run_briefly(place).await;
    run_all(open(place, Some(&capabilities)).await.expect("open"), capabilities.conditional_put).await;
    capabilities
}

/// Only tries it out and founds a store: for another way to be let in to the same Swift.
pub async fn run_briefly(place: &site::Store) -> Capabilities {
    let capabilities = service::tried(place).await;
    service::is_described(place, capabilities).await;
    capabilities
}

/// Fills a container that it makes beside that of `place`, and which may hold a MiB.
pub async fn run_quota(place: &site::Store) {
    let place = site::Store { url: format!("swift://quota-{}", Uuid::now_v7()), ..place.clone() };
    let store = SwiftStore::new(&place).expect("open");
    store.make_container(Some(1 << 20)).await.expect("make a container");
    run_full(Arc::new(store)).await;
}

/// What keeps a request out. `wrong_key` is a reference to a key that isn't the user's; nobody is called `wrong_user`.
pub async fn run_refusals(place: &site::Store, wrong_key: &str, wrong_user: &str) {
    let bad_key = site::Store { key: Some(wrong_key.to_owned()), ..place.clone() };
    let unknown = site::Store { user: Some(wrong_user.to_owned()), ..place.clone() };
    let no_container = site::Store { url: format!("swift://no-such-{}/prefix", Uuid::now_v7()), ..place.clone() };
    let away = place.auth.as_ref().and_then(|it| it.rsplit_once('/')).map(|(_, version)| format!("http://127.0.0.1:1/{version}"));
    let no_login = site::Store { auth: away, ..place.clone() };
    let no_store = site::Store { endpoint: Some("http://127.0.0.1:1".to_owned()), ..place.clone() };
    for (place, wanted) in [
        (&bad_key, code::STORE_DENIED),
        (&unknown, code::STORE_DENIED),
        (&no_container, code::STORE_MISSING),
        (&no_login, code::STORE_UNAVAILABLE),
        (&no_store, code::STORE_UNAVAILABLE),
    ] {
        service::refuses(place, wanted).await;
    }
}

/// Nothing is given to this user: nobody knows it there, or it has no rights.
pub async fn run_denied(place: &site::Store) {
    service::refuses(place, code::STORE_DENIED).await;
}
