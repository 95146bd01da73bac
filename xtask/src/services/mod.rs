//! The services that the tests need, real ones: RabbitMQ, PostgreSQL, an S3 server and Swift, in a scratch folder, on
//! free ports of the loopback address, under accounts of their own. Any number of runs go side by side.

pub mod account;
pub mod guard;
pub mod packages;
pub mod ports;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod python;
pub mod rabbitmq;
pub mod s3;
pub mod scratch;
pub mod secret;
pub mod service;
pub mod swift;

use crate::project::target;
use anyhow::{Result, anyhow};
use packages::Package;
use std::{path::Path, thread};

/// All of them, running. They go on when this is dropped; `scratch::stop` ends them.
#[derive(Debug)]
pub struct Services {
    /// The database.
    pub postgres: postgres::Postgres,
    /// The broker.
    pub rabbitmq: rabbitmq::Rabbitmq,
    /// The object store.
    pub s3: s3::S3,
    /// Another object store, with who lets its users in.
    pub swift: swift::Swift,
    /// Python with a client of the broker.
    pub python: python::Python,
}

/// What is installed for them, besides what comes from PyPI.
const SERVERS: [Package; 4] = [Package::Memcached, Package::Postgresql, Package::Python, Package::RabbitmqServer];

/// Installs what is missing for them, and `besides`: all at once, for whoever must ask somebody else to do it.
pub fn install(besides: &[Package]) -> Result<python::Python> {
    packages::install(&[besides, &SERVERS].concat())?;
    python::Python::ready()
}

impl Services {
    /// Starts them in `scratch`, all at the same time, and waits until they are ready. On an error some may run.
    pub fn start(scratch: &Path, python: python::Python, durable: bool) -> Result<Services> {
        thread::scope(|scope| {
            let postgres = scope.spawn(|| postgres::start(scratch, durable));
            let rabbitmq = scope.spawn(|| rabbitmq::start(scratch, None));
            let swift = scope.spawn(|| swift::start(scratch, &python));
            let s3 = s3::start(scratch, &python);
            let postgres = postgres.join().map_err(|_| anyhow!("the thread that starts PostgreSQL panicked"))?;
            let rabbitmq = rabbitmq.join().map_err(|_| anyhow!("the thread that starts RabbitMQ panicked"))?;
            let swift = swift.join().map_err(|_| anyhow!("the thread that starts Swift panicked"))?;
            Ok(Services { postgres: postgres?, rabbitmq: rabbitmq?, s3: s3?, swift: swift?, python: python.clone() })
        })
    }

    /// What a test reads to find them.
    pub fn environment(&self, scratch: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("LONGSHORE_TEST_DIR", scratch.display().to_string()),
            ("LONGSHORE_TEST_POSTGRES", self.postgres.url.clone()),
            ("LONGSHORE_TEST_AMQP", self.rabbitmq.url.clone()),
            ("LONGSHORE_TEST_AMQP_MANAGEMENT", self.rabbitmq.management.clone()),
            ("LONGSHORE_TEST_S3_ENDPOINT", self.s3.endpoint.clone()),
            ("LONGSHORE_TEST_S3_KEY", self.s3.key.clone()),
            ("LONGSHORE_TEST_S3_SECRET", self.s3.secret.clone()),
            ("LONGSHORE_TEST_SWIFT_TEMPAUTH", self.swift.tempauth.clone()),
            ("LONGSHORE_TEST_SWIFT_KEYSTONE", self.swift.identity.clone()),
            ("LONGSHORE_TEST_SWIFT_KEY", self.swift.key.clone()),
            ("LONGSHORE_TEST_SWIFT_MEMCACHED", format!("127.0.0.1:{}", self.swift.memcached.probe.port())),
            ("LONGSHORE_TEST_BINARY", target().join("debug/longshore").display().to_string()),
            ("LONGSHORE_TEST_PYTHON", self.python.interpreter().display().to_string()),
            ("LONGSHORE_TEST_XTASK", std::env::current_exe().unwrap_or_default().display().to_string()),
        ]
    }
}
