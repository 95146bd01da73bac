use super::*;

fn place(endpoint: &str, access_key: &str, secret_key: &str) -> site::Store {
    site::Store {
        name: "s3-test".to_owned(),
        url: "s3://longshore-test/pre/fix".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        signing_region: None,
        path_style: true,
        region: Some("r1".to_owned()),
        zone: None,
        extent_size: None,
        capacity: site::Size(1 << 40),
        overcommit: 1.0,
        threshold: 0.95,
        grace_s: 3600,
        credentials: Some(site::Credentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 service: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"]
async fn a_real_service_does_all_that_a_store_must() {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let place = place(&endpoint, "env:AWS_ACCESS_KEY_ID", "env:AWS_SECRET_ACCESS_KEY");
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong");
    std::fs::write(&wrong, "WRONGACCESSKEY000001").unwrap();
    let wrong = format!("file:{}", wrong.display());
    crate::store::suite::s3::make_bucket(&place).await.unwrap();
    let wrong = site::Credentials { access_key: wrong.clone(), secret_key: wrong };
    let found = crate::store::suite::s3::run(&place, &wrong).await;
    assert!(found.conditional_put && found.checks_md5 && found.multipart, "{found:?}");
}
