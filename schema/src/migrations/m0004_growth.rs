//! Indexes for what grows: three filters that had none, so that asking for a tenant, a zone or a person with little or
//! nothing read every row there is. Measured with `cargo xtask bench growth`.
//!
//! Each change of an operation's state writes all indexes of `operation`, three times in its life. Two more of
//! them, of 40 bytes or so an entry, are what a list costs that answers whatever the filter says. Events by people are
//! one or two of an operation's history, so that their index is written as seldom.
//!
//! `operation_destroy` begins with the columns of its predicate, since SQLite took `operation_state` instead, and the clock
//! read every Ready operation at each tick. It has only those rows that are to go, and no column that wasn't in it.

use sea_orm_migration::{prelude::*, sea_orm::DbErr};

/// The fourth migration.
#[derive(DeriveMigrationName, Debug)]
pub(super) struct Migration;

const EVERYWHERE: &[&str] = &[
    "CREATE INDEX operation_tenant ON operation (tenant, id)",
    "CREATE INDEX operation_zone ON operation (zone, id)",
    "DROP INDEX operation_destroy",
    "CREATE INDEX operation_destroy ON operation (state, destroy_requested) WHERE state = 'ready' AND destroy_requested",
    "CREATE INDEX history_user ON history (actor, at) WHERE substr(actor, 1, 5) = 'user:'",
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
