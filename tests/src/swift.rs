//! Containers in the Swift that `cargo xtask test` started, as a site file names them.

use crate::services::{Services, unique};
use longshore_schema::site::{self, Site};
use longshore_workers::store::suite;
use std::path::Path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Who lets the store's user in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Swift itself.
    Tempauth,
    /// Keystone, in the domain that needn't be named.
    Keystone,
    /// Keystone, in another domain.
    KeystoneElsewhere,
}

/// The fields of a store in a new, empty container, but for what all stores have. `dir` gets its key.
pub async fn fresh_container(services: &Services, login: Login, dir: &Path) -> String {
    std::fs::write(dir.join("swift-key"), &services.swift_key).expect("write the key");
    let (tempauth, keystone) = (&services.swift_tempauth, &services.swift_keystone);
    let user = match login {
        Login::Tempauth => format!("auth = \"{tempauth}\"\nuser = \"test:tester\""),
        Login::Keystone => format!("auth = \"{keystone}\"\nuser = \"tester\"\nproject = \"backups\""),
        Login::KeystoneElsewhere => {
            format!("auth = \"{keystone}\"\nuser = \"stranger\"\nproject = \"backups\"\ndomain = \"elsewhere\"")
        }
    };
    let fields = format!("url = \"swift://{}/prefix\"\nkey = \"file:{}/swift-key\"\n{user}", unique("box"), dir.display());
    suite::swift::make_container(&place(&fields)).await.expect("make a container");
    fields
}

/// The store of a site file that has these fields.
pub fn place(fields: &str) -> site::Store {
    let common = "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n[[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"1 GiB\"\n";
    Site::parse(&format!("{common}{fields}")).expect("a site").stores.remove(0)
}

/// Makes tempauth forget all tokens that it has given: it keeps them in a memcached. Other tests ask for new ones.
pub async fn forget_tokens(services: &Services) {
    let mut memcached = TcpStream::connect(&services.swift_memcached).await.expect("connect to memcached");
    memcached.write_all(b"flush_all\r\n").await.expect("ask memcached");
    let mut answer = [0; 4];
    memcached.read_exact(&mut answer).await.expect("memcached's answer");
    assert_eq!(&answer, b"OK\r\n");
}
