//! What a subcommand works with: the settings, the database when it is needed, and the way to print.

use crate::{
    arguments::Arguments,
    ended::Ended,
    presence,
    print::Printer,
    settings::{Broker, Settings},
};
use anyhow::Context;
use longshore_courier::Courier;
use longshore_engine::{audit, audit::OperationView, database::Database};
use longshore_schema::{ids::OperationId, tables::site, time::Timestamp};
use sea_orm::EntityTrait;
use std::sync::Arc;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where things are.
    pub(crate) settings: Settings,
    /// How results are printed.
    pub(crate) out: Printer,
}

impl Session {
    /// From the command line.
    pub(crate) fn new(arguments: &Arguments, settings: Settings) -> Session {
        Session { settings, out: Printer { json: arguments.json } }
    }

    /// Connects to the database and brings it up to this version: for engines and whoever changes it.
    pub(crate) async fn database(&self) -> Result<Database, Ended> {
        if let Some(full) = presence::no_room(self) {
            self.out.notice(&full);
        }
        Database::knock(&self.settings.database).await.map_err(Ended::Unreachable)?;
        Database::open(&self.settings.database).await.map_err(Ended::Unreachable)
    }

    /// The same for an engine, which waits a while for a server that is just starting.
    pub(crate) async fn database_in_time(&self) -> Result<Database, Ended> {
        match Database::open(&self.settings.database).await {
            Ok(database) => Ok(database),
            Err(error) => Err(Ended::Unreachable(Database::knock(&self.settings.database).await.err().unwrap_or(error))),
        }
    }

    /// Connects to the database to read. An embedded one is this program's own and brought up to its version; a shared
    /// one isn't changed under its engines' feet.
    pub(crate) async fn reading(&self) -> Result<Database, Ended> {
        match self.settings.socket() {
            Some(_) => self.database().await,
            None => {
                Database::knock(&self.settings.database).await.map_err(Ended::Unreachable)?;
                let database = Database::connect(&self.settings.database).await.map_err(Ended::Unreachable)?;
                let migrated = site::Entity::find_by_id(1).one(database.read()).await;
                let why = "read the site (an engine, or `longshore site apply`, brings a new database up to this version)";
                migrated.context(why).map_err(Ended::Unreachable)?;
                Ok(database)
            }
        }
    }

    /// Connects to RabbitMQ, if that is the broker.
    pub(crate) async fn amqp(&self, name: &str) -> Result<Option<Arc<dyn Courier>>, Ended> {
        match &self.settings.broker {
            Broker::Embedded => Ok(None),
            Broker::Amqp(url) => longshore_courier::open(url, name).await.map(Some).map_err(Ended::Unreachable),
        }
    }

    /// One operation, or `NotFound`.
    pub(crate) async fn operation(&self, database: &Database, id: OperationId) -> Result<OperationView, Ended> {
        let found = audit::show(database.read(), id).await.map_err(Ended::Unreachable)?;
        found.ok_or(Ended::NotFound(id))
    }
}

/// The database's clock.
pub(crate) async fn now(database: &Database) -> Result<Timestamp, Ended> {
    longshore_engine::database::now(database.read()).await.context("read the database's clock").map_err(Ended::Unreachable)
}
