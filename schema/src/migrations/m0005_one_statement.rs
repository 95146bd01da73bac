//! PostgreSQL only. The statement that writes a transaction's rows fails by itself if something that was read isn't so any
//! more, so that it needs no transaction around it. 40001 is `serialization_failure`: read again, decide again.
//!
//! And words that are in indexes are compared byte by byte, as SQLite does: a locale's order costs time with each entry, and
//! nobody reads lists in it.

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

/// Tables and their words in indexes.
const WORDS: &[(&str, &[&str])] = &[
    ("claim", &["resource"]),
    ("history", &["actor"]),
    ("message_seen", &["tenant", "user_name", "message_id"]),
    ("operation", &["kind", "zone", "tenant", "subject", "store", "state", "waiting_place"]),
    ("queue", &["name"]),
    ("step", &["queue", "state"]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DatabaseBackend::Postgres {
            return Ok(());
        }
        let db = manager.get_connection();
        db.execute_unprepared(UNCHANGED).await?;
        for (table, columns) in WORDS {
            let change = |column: &&str| format!("ALTER COLUMN {column} TYPE text COLLATE \"C\"");
            let changes: Vec<String> = columns.iter().map(change).collect();
            db.execute_unprepared(&format!("ALTER TABLE {table} {}", changes.join(", "))).await?;
        }
        Ok(())
    }
}
