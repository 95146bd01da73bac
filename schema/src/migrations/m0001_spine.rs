//! The spine: operations, steps, history, the ledger, packs, messages, workers and the site.
//! Written as SQL for both databases, since triggers, partial indexes and checks are the point of it.

use sea_orm_migration::{prelude::*, sea_orm::DatabaseBackend};

/// The first migration.
#[derive(DeriveMigrationName, Debug)]
pub(super) struct Migration;

const TABLES: &str = include_str!("m0001_spine.sql");

/// PostgreSQL: history can't be changed or emptied, not even by the owner's mistake.
const POSTGRES_GUARD: &[&str] = &[
    "CREATE FUNCTION history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN RAISE EXCEPTION 'history is append-only'; END $$",
    "CREATE TRIGGER history_guard BEFORE UPDATE OR DELETE ON history FOR EACH ROW EXECUTE FUNCTION history_is_append_only()",
    "CREATE TRIGGER history_guard_truncate BEFORE TRUNCATE ON history FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only()",
];

/// SQLite: the same; a REPLACE fires the delete trigger only with recursive triggers, so it is refused at the insert.
const SQLITE_GUARD: &[&str] = &[
    "CREATE TRIGGER history_guard_update BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'history is append-only'); END",
    "CREATE TRIGGER history_guard_delete BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'history is append-only'); END",
    "CREATE TRIGGER history_guard_replace BEFORE INSERT ON history \
     WHEN EXISTS (SELECT 1 FROM history WHERE operation_id = NEW.operation_id AND seq = NEW.seq) \
     BEGIN SELECT RAISE(ABORT, 'history is append-only'); END",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let (types, guard) = match manager.get_database_backend() {
            DatabaseBackend::Postgres => {
                ([("BLOB_ID", "uuid"), ("JSON", "jsonb"), ("BYTES", "bytea"), ("SERIAL", "serial")], POSTGRES_GUARD)
            }
            _ => ([("BLOB_ID", "blob"), ("JSON", "text"), ("BYTES", "blob"), ("SERIAL", "integer")], SQLITE_GUARD),
        };
        let sql = types.iter().fold(TABLES.to_owned(), |sql, (from, to)| sql.replace(from, to));
        for statement in sql.split(";\n").map(str::trim).filter(|it| !it.is_empty()) {
            db.execute_unprepared(statement).await?;
        }
        for statement in guard {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
