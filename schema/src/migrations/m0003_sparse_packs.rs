//! A use of a pack says whether the object refers to only a little of it, so that a backup can store again what it
//! needs of packs that are mostly dead. `pack.live_bytes`, which nothing kept up to date, goes.

use sea_orm_migration::{prelude::*, sea_orm::DbErr};

/// The third migration.
#[derive(DeriveMigrationName, Debug)]
pub(super) struct Migration;

const EVERYWHERE: &[&str] = &[
    "ALTER TABLE pack DROP COLUMN live_bytes",
    "ALTER TABLE pack_use ADD COLUMN sparse boolean NOT NULL DEFAULT false",
    "CREATE INDEX pack_use_sparse ON pack_use (object_id) WHERE sparse",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in EVERYWHERE {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
