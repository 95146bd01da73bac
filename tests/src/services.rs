//! The services that `cargo xtask test` started, and a database, a virtual host and a bucket in them for each
//! test alone. Whatever a test leaves in them goes with the services.

use crate::management::Management;
use aws_credential_types::Credentials;
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Region, RequestChecksumCalculation},
};
use sea_orm::{ConnectionTrait, Database};
use std::path::PathBuf;
use uuid::Uuid;

/// The region that requests are signed for.
pub const REGION: &str = "us-east-1";

/// Where the services are.
#[derive(Debug, Clone)]
pub struct Services {
    /// A scratch folder that goes with the services.
    pub dir: PathBuf,
    /// The superuser's address of a database server.
    pub postgres: String,
    /// The administrator's address of a broker, virtual host `/`.
    pub amqp: String,
    /// The address of that broker's management interface.
    pub amqp_management: String,
    /// The address of an S3 server.
    pub s3_endpoint: String,
    /// An access key that may do everything there.
    pub s3_key: String,
    /// Its secret.
    pub s3_secret: String,
    /// Where Swift itself (tempauth) gives tokens.
    pub swift_tempauth: String,
    /// Where Keystone gives tokens for Swift.
    pub swift_keystone: String,
    /// The key or password of every user of either.
    pub swift_key: String,
    /// The address of the memcached that has tempauth's tokens.
    pub swift_memcached: String,
    /// A Python with `pika`.
    pub python: PathBuf,
    /// The program `longshore`, built with the tests.
    pub binary: PathBuf,
    /// The program that started the services: `cargo xtask`.
    pub xtask: PathBuf,
}

/// A bucket, and a client to look into it behind Longshore's back.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The client.
    pub client: Client,
}

impl Services {
    /// Those that the environment names. Panics if there are none.
    pub fn from_env() -> Services {
        let read = |name: &str| match std::env::var(format!("LONGSHORE_TEST_{name}")) {
            Ok(value) => value,
            Err(e) => panic!("this test needs real services: run `cargo xtask test` (LONGSHORE_TEST_{name}: {e})"),
        };
        Services {
            dir: read("DIR").into(),
            postgres: read("POSTGRES"),
            amqp: read("AMQP"),
            amqp_management: read("AMQP_MANAGEMENT"),
            s3_endpoint: read("S3_ENDPOINT"),
            s3_key: read("S3_KEY"),
            s3_secret: read("S3_SECRET"),
            swift_tempauth: read("SWIFT_TEMPAUTH"),
            swift_keystone: read("SWIFT_KEYSTONE"),
            swift_key: read("SWIFT_KEY"),
            swift_memcached: read("SWIFT_MEMCACHED"),
            python: read("PYTHON").into(),
            binary: read("BINARY").into(),
            xtask: read("XTASK").into(),
        }
    }

    /// The address of a new, empty database.
    pub async fn fresh_database(&self) -> String {
        let name = unique("db").replace('-', "_");
        let server = Database::connect(&self.postgres).await.expect("connect to PostgreSQL");
        server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("create a database");
        server.close().await.expect("disconnect from PostgreSQL");
        with_path(&self.postgres, &name)
    }

    /// The address of a new virtual host on the broker.
    pub async fn fresh_vhost(&self) -> String {
        let name = unique("vhost");
        self.management().create_vhost(&name).await.expect("create a virtual host");
        with_path(&self.amqp, &name)
    }

    /// The broker's management interface.
    pub fn management(&self) -> Management {
        Management::at(&self.amqp_management)
    }

    /// A new, empty bucket.
    pub async fn fresh_bucket(&self) -> Bucket {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::from_keys(&self.s3_key, &self.s3_secret, None))
            .endpoint_url(&self.s3_endpoint)
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(REGION))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        let bucket = Bucket { name: unique("bucket"), client: Client::from_conf(config) };
        bucket.client.create_bucket().bucket(&bucket.name).send().await.expect("create a bucket");
        bucket
    }
}

/// A name that nothing else has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", Uuid::now_v7().simple())
}

/// The same address with another last part.
pub fn with_path(url: &str, last: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("an address with a path");
    format!("{server}/{last}")
}
