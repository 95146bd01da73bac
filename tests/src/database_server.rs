//! A PostgreSQL server of one test alone, which it may kill, stop and start again over the same data on the same
//! port. What it has committed survives that, unlike in the shared server, which trades it for speed.

use crate::own::{Own, Server};
use anyhow::Result;
use xtask::services::{
    postgres::{self, Postgres},
    service::Service,
};

/// The server.
pub type DatabaseServer = Own<Postgres>;

impl Server for Postgres {
    const NAME: &'static str = "postgres";

    fn service(&self) -> &Service {
        &self.service
    }

    fn kill(&self) -> Result<()> {
        self.service.kill()
    }
}

impl DatabaseServer {
    /// Starts one. Takes seconds: use a database of the shared server where nothing is killed.
    pub async fn start() -> DatabaseServer {
        Own::started(|folder| postgres::start(folder, true)).await
    }

    /// The superuser's address of its database, the same after a restart.
    pub fn url(&self) -> String {
        self.server.url.clone()
    }
}
