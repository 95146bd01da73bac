//! PostgreSQL: the statement that writes a transaction's rows fails by itself if something that was read isn't so any
//! more, so that it needs no transaction around it. 40001 is `serialization_failure`: read again, decide again.

use sea_orm_migration::{prelude::*, sea_orm::DatabaseBackend};

/// The fifth migration.
#[derive(DeriveMigrationName, Debug)]
pub(super) struct Migration;

/// `in_time` is NULL where the time was read in the same transaction.
const UNCHANGED: &str = "CREATE FUNCTION longshore_unchanged(rows boolean, in_time boolean) RETURNS boolean LANGUAGE plpgsql AS \
     $$ BEGIN \
     IF NOT rows THEN RAISE EXCEPTION 'longshore: what was read has changed meanwhile; it is read again' USING ERRCODE = '40001'; END IF; \
     IF NOT in_time THEN RAISE EXCEPTION 'longshore: the engine''s time is not the database''s; it is read again' USING ERRCODE = '40001'; END IF; \
     RETURN true; END $$";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            manager.get_connection().execute_unprepared(UNCHANGED).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("migrations go forward only; restore a backup of the database instead".into()))
    }
}
