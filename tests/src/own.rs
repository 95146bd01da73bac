//! A server of one test alone, which it may kill, stop and start again over the same data on the same ports.

use crate::services::Services;
use anyhow::{Result, anyhow};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use xtask::services::{scratch, service::Service};

/// The server. It ends with this; if the test is killed, with the other services.
#[derive(Debug)]
pub struct Own<S: Server> {
    folder: PathBuf,
    pub(crate) server: Arc<S>,
}

/// What `Own` must know of one.
pub trait Server: Send + Sync + 'static {
    /// For messages, and its folder's name.
    const NAME: &'static str;

    /// Its process.
    fn service(&self) -> &Service;

    /// SIGKILL to all of it; returns when it is gone.
    fn kill(&self) -> Result<()>;
}

impl<S: Server> Own<S> {
    /// One that `start` starts in the folder that it is given.
    pub(crate) async fn started(start: impl FnOnce(&Path) -> Result<S> + Send + 'static) -> Own<S> {
        let parent = Services::from_env().dir;
        blocking("start", S::NAME, move || {
            let folder = scratch::make_in(&parent, S::NAME)?;
            match start(&folder) {
                Ok(server) => Ok(Own { folder, server: Arc::new(server) }),
                Err(e) => Err(e.context(format!("stop what started: {:?}", scratch::stop(&folder)))),
            }
        })
        .await
    }

    /// SIGKILL to all of its processes; returns when they are gone.
    pub async fn kill(&self) {
        let server = self.server.clone();
        blocking("kill", S::NAME, move || server.kill()).await;
    }

    /// Starts the killed server; returns when it takes connections.
    pub async fn start_again(&self) {
        let server = self.server.clone();
        blocking("start again", S::NAME, move || server.service().start()).await;
    }

    /// SIGSTOP to all of its processes.
    pub fn pause(&self) {
        self.server.service().pause().unwrap_or_else(|e| panic!("stop {}: {e:#}", S::NAME));
    }

    /// SIGCONT to all of its processes.
    pub fn go_on(&self) {
        self.server.service().go_on().unwrap_or_else(|e| panic!("let {} go on: {e:#}", S::NAME));
    }
}

impl<S: Server> Drop for Own<S> {
    fn drop(&mut self) {
        if let Err(e) = scratch::stop(&self.folder) {
            eprintln!("stop {} in {}: {e:#}", S::NAME, self.folder.display());
        }
    }
}

async fn blocking<T: Send + 'static>(verb: &str, name: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(anyhow!("{e}")));
    done.unwrap_or_else(|e| panic!("{verb} {name}: {e:#}"))
}
