//! Fewer writes for each operation: two indexes go, and pages keep room for the next version of a row, so that an
//! update of what isn't indexed stays on its page (PostgreSQL's HOT updates). Measured with `cargo xtask bench engine`.
//!
//! No query needs `operation_live`. `outbox_claim` served the search for what dead engines left, every 5 s: rows of
//! the outbox live for milliseconds, so it is short, unless the broker is away, when all of it is read each time.

use sea_orm_migration::{prelude::*, sea_orm::DatabaseBackend};

/// The second migration.
#[derive(DeriveMigrationName, Debug)]
pub(super) struct Migration;

const EVERYWHERE: &[&str] = &["DROP INDEX operation_live", "DROP INDEX outbox_claim"];
const POSTGRES: &[&str] = &["ALTER TABLE operation SET (fillfactor = 70)", "ALTER TABLE step SET (fillfactor = 70)"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
        for statement in EVERYWHERE.iter().chain(if postgres { POSTGRES } else { &[] }) {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
