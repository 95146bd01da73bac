//! A RabbitMQ node of one test alone, which it may kill and start again over the same data on the same ports.

use crate::{
    management::Management,
    own::{Own, Server},
};
use anyhow::Result;
use xtask::services::{
    rabbitmq::{self, Rabbitmq, Tls},
    service::Service,
};

/// The node. A kill comes up to half a second late if a queue was only just declared.
pub type Broker = Own<Rabbitmq>;

impl Server for Rabbitmq {
    const NAME: &'static str = "broker";

    fn service(&self) -> &Service {
        &self.service
    }

    fn kill(&self) -> Result<()> {
        Rabbitmq::kill(self)
    }
}

impl Broker {
    /// Starts a node. Takes seconds: use a virtual host of the shared broker where nothing is killed.
    pub async fn start() -> Broker {
        Broker::start_with(None).await
    }

    /// One that speaks TLS too.
    pub async fn start_with(tls: Option<Tls>) -> Broker {
        Own::started(move |folder| rabbitmq::start(folder, tls.as_ref())).await
    }

    /// The administrator's address of the virtual host `/`, the same after a restart.
    pub fn url(&self) -> String {
        self.server.url.clone()
    }

    /// The same over TLS.
    pub fn tls_url(&self) -> String {
        self.server.tls_url.clone().expect("a broker with a certificate")
    }

    /// Its management interface.
    pub fn management(&self) -> Management {
        Management::at(&self.server.management)
    }
}
