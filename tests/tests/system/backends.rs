//! The suites of courier and store, on the real services.

use longshore_courier::suite;
use longshore_engine::database::Database;
use longshore_schema::site::{self, Site};
use longshore_tests::{
    broker::Broker,
    services::Services,
    swift::{self, Login},
};
use longshore_workers::store::{PutMode, open::open, probe::Capabilities, suite as stores};
use std::{path::Path, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_keeps_every_promise_of_a_courier() {
    let url = Services::from_env().fresh_vhost().await;
    suite::run_all(suite::broker::factory(&url), |name| println!("{name}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_loses_nothing_that_was_confirmed() {
    let broker = Arc::new(Broker::start().await);
    let (killed, started) = (broker.clone(), broker.clone());
    let kill: Arc<dyn Fn() -> futures::future::BoxFuture<'static, ()> + Send + Sync> = Arc::new(move || {
        let broker = killed.clone();
        Box::pin(async move { broker.kill().await })
    });
    let start: Arc<dyn Fn() -> futures::future::BoxFuture<'static, ()> + Send + Sync> = Arc::new(move || {
        let broker = started.clone();
        Box::pin(async move { broker.start_again().await })
    });
    suite::broker::run_all(suite::broker::Broker { url: broker.url(), kill, start }, |name| println!("{name}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_server_keeps_every_promise_of_a_store() {
    let services = Services::from_env();
    let bucket = services.fresh_bucket().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    for (file, secret) in [("key", &*services.s3_key), ("secret", &*services.s3_secret), ("wrong", "wrongwrongwrongwrong")] {
        std::fs::write(dir.path().join(file), secret).unwrap();
    }
    let site = Site::parse(&format!(
        "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n[[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"1 GiB\"\n\
         url = \"s3://{}/suite\"\nendpoint = \"{}\"\nsigning_region = \"us-east-1\"\npath_style = true\n\
         credentials = {{ access_key = \"file:{path}/key\", secret_key = \"file:{path}/secret\" }}",
        bucket.name, services.s3_endpoint
    ));
    let place = site.unwrap().stores.remove(0);
    let wrong = format!("file:{path}/wrong");
    let wrong = longshore_schema::site::Credentials { access_key: wrong.clone(), secret_key: wrong };
    let capabilities = stores::s3::run(&place, &wrong).await;
    assert!(capabilities.conditional_put && capabilities.ranges && capabilities.list_after_put, "{capabilities:?}");
}

/// A reference to a key that is nobody's.
fn wrong_key(dir: &Path) -> String {
    std::fs::write(dir.join("wrong"), "wrongwrongwrongwrong").unwrap();
    format!("file:{}/wrong", dir.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swift_keeps_every_promise_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let place = swift::place(&swift::fresh_container(&Services::from_env(), Login::Tempauth, dir.path()).await);
    let wanted = Capabilities {
        ranges: true,
        overwrite_visible: true,
        list_after_put: true,
        delete_visible: true,
        checks_md5: true,
        ..Capabilities::default()
    };
    assert_eq!(stores::swift::run(&place).await, wanted);
    stores::swift::run_refusals(&place, &wrong_key(dir.path()), "test:nobody").await;
    let without_rights = site::Store { user: Some("test:reader".to_owned()), ..place };
    stores::swift::run_denied(&without_rights).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keystone_lets_its_users_in_to_swift_and_nobody_else() {
    let (services, dir) = (Services::from_env(), tempfile::tempdir().unwrap());
    for (login, other_domain) in [(Login::Keystone, "elsewhere"), (Login::KeystoneElsewhere, "Default")] {
        let place = swift::place(&swift::fresh_container(&services, login, dir.path()).await);
        stores::swift::run_briefly(&place).await;
        stores::swift::run_denied(&site::Store { domain: Some(other_domain.to_owned()), ..place.clone() }).await;
        stores::swift::run_denied(&site::Store { project: Some("none".to_owned()), ..place }).await;
    }
    let place = swift::place(&swift::fresh_container(&services, Login::Keystone, dir.path()).await);
    stores::swift::run_refusals(&place, &wrong_key(dir.path()), "nobody").await;
}

/// Through the proxy that remembers nothing: the other one goes on for a minute with what it knew of a container.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_swift_whose_quota_is_used_up_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let place = swift::place(&swift::fresh_container(&Services::from_env(), Login::Keystone, dir.path()).await);
    stores::swift::run_quota(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_swift_has_forgotten_is_no_obstacle() {
    let (services, dir) = (Services::from_env(), tempfile::tempdir().unwrap());
    let place = swift::place(&swift::fresh_container(&services, Login::Tempauth, dir.path()).await);
    let store = open(&place, None).await.unwrap();
    let body = bytes::Bytes::from(vec![7; 8 << 20]);
    for round in 0..3 {
        let puts = (0..4).map(|n| {
            let (store, key, body) = (store.clone(), format!("{round}/{n}"), body.clone());
            async move {
                store.put(&key, body.clone(), PutMode::Create).await.unwrap();
                assert!(store.get(&key, 0..body.len() as u64).await.unwrap() == body, "{key}");
            }
        });
        futures::future::join_all(puts).await;
        swift::forget_tokens(&services).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_start_at_the_same_moment_all_find_a_whole_database() {
    let folder = tempfile::tempdir().unwrap();
    all_find_a_whole_database(&Services::from_env().fresh_database().await).await;
    all_find_a_whole_database(&format!("sqlite://{}/longshore.db", folder.path().display())).await;
}

async fn all_find_a_whole_database(url: &str) {
    let opened = futures::future::join_all((0..6).map(|_| Database::open(url))).await;
    let failed: Vec<_> = opened.iter().filter_map(|it| it.as_ref().err()).map(|it| format!("{it:#}")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
