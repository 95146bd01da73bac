//! A RabbitMQ node of one test alone, which it may kill and start again over the same data on the same ports.

use crate::{management::Management, services::Services};
use anyhow::{Result, anyhow};
use std::{path::PathBuf, sync::Arc};
use xtask::services::{
    rabbitmq::{self, Rabbitmq},
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
        let parent = Services::from_env().dir;
        blocking(move || {
            let folder = scratch::make_in(&parent, "broker")?;
            match rabbitmq::start(&folder) {
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

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(e) = scratch::stop(&self.folder) {
            eprintln!("stop the broker in {}: {e:#}", self.folder.display());
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| anyhow!("{e}"))?
}
