//! A PostgreSQL server of one test alone, which it may kill, stop and start again over the same data on the same
//! port. What it has committed survives that, unlike in the shared server, which trades it for speed.

use crate::{broker::blocking, services::Services};
use std::{path::PathBuf, sync::Arc};
use xtask::services::{
    postgres::{self, Postgres},
    scratch,
};

/// The server. It ends with this; if the test is killed, with the other services.
#[derive(Debug)]
pub struct DatabaseServer {
    folder: PathBuf,
    server: Arc<Postgres>,
}

impl DatabaseServer {
    /// Starts one. Takes seconds: use a database of the shared server where nothing is killed.
    pub async fn start() -> DatabaseServer {
        let parent = Services::from_env().dir;
        blocking(move || {
            let folder = scratch::make_in(&parent, "postgres")?;
            match postgres::start(&folder, true) {
                Ok(server) => Ok(DatabaseServer { folder, server: Arc::new(server) }),
                Err(e) => Err(e.context(format!("stop what started: {:?}", scratch::stop(&folder)))),
            }
        })
        .await
        .expect("start a database server")
    }

    /// The superuser's address of its database, the same after a restart.
    pub fn url(&self) -> String {
        self.server.url.clone()
    }

    /// SIGKILL to all of its processes; returns when they are gone.
    pub async fn kill(&self) {
        let server = self.server.clone();
        blocking(move || server.service.kill()).await.expect("kill the database server");
    }

    /// Starts the killed server; returns when it takes connections.
    pub async fn start_again(&self) {
        let server = self.server.clone();
        blocking(move || server.service.start()).await.expect("start the database server again");
    }

    /// SIGSTOP to all of its processes.
    pub fn pause(&self) {
        self.server.service.pause().expect("stop the database server");
    }

    /// SIGCONT to all of its processes.
    pub fn go_on(&self) {
        self.server.service.go_on().expect("let the database server go on");
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        if let Err(e) = scratch::stop(&self.folder) {
            eprintln!("stop the database server in {}: {e:#}", self.folder.display());
        }
    }
}
