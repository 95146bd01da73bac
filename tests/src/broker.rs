//! A RabbitMQ node of one test alone, which it may kill and start again over the same data on the same ports.

use crate::{management::Management, services::Services};
use anyhow::{Result, anyhow};
use std::{path::PathBuf, sync::Arc};
use xtask::services::{
    rabbitmq::{self, Rabbitmq, Tls},
    scratch,
};

/// The node. It ends with this; if the test is killed, with the other services.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    node: Arc<Rabbitmq>,
}

impl Broker {
    /// Starts a node. Takes seconds: use a virtual host of the shared broker where nothing is killed.
    pub async fn start() -> Broker {
        Broker::start_with(None).await
    }

    /// One that speaks TLS too.
    pub async fn start_with(tls: Option<Tls>) -> Broker {
        let parent = Services::from_env().dir;
        blocking(move || {
            let folder = scratch::make_in(&parent, "broker")?;
            match rabbitmq::start(&folder, tls.as_ref()) {
                Ok(node) => Ok(Broker { folder, node: Arc::new(node) }),
                Err(e) => Err(e.context(format!("stop what started: {:?}", scratch::stop(&folder)))),
            }
        })
        .await
        .expect("start a broker")
    }

    /// The administrator's address of the virtual host `/`, the same after a restart.
    pub fn url(&self) -> String {
        self.node.url.clone()
    }

    /// The same over TLS.
    pub fn tls_url(&self) -> String {
        self.node.tls_url.clone().expect("a broker with a certificate")
    }

    /// Its management interface.
    pub fn management(&self) -> Management {
        Management::at(&self.node.management)
    }

    /// SIGKILL, up to half a second later if a queue was only just declared; returns when the node is gone.
    pub async fn kill(&self) {
        let node = self.node.clone();
        blocking(move || node.kill()).await.expect("kill the broker");
    }

    /// Starts the killed node; returns when it takes connections.
    pub async fn start_again(&self) {
        let node = self.node.clone();
        blocking(move || node.service.start()).await.expect("start the broker again");
    }
}

impl Broker {
    /// SIGSTOP to the node.
    pub fn pause(&self) {
        self.node.service.pause().expect("stop the broker");
    }

    /// SIGCONT to the node.
    pub fn go_on(&self) {
        self.node.service.go_on().expect("let the broker go on");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(e) = scratch::stop(&self.folder) {
            eprintln!("stop the broker in {}: {e:#}", self.folder.display());
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| anyhow!("{e}"))?
}
