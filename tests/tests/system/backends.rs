//! The suites of courier and store, on the real services.

use longshore_courier::suite;
use longshore_engine::database::Database;
use longshore_schema::site::Site;
use longshore_tests::{broker::Broker, services::Services};
use longshore_workers::store::suite as stores;
use std::sync::Arc;

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
