//! `history`: one row for each event that `transition` applied. The database refuses update and delete.

use sea_orm::entity::prelude::*;

/// One row for each event that `transition` applied. The database refuses update and delete.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "history")]
pub struct Model {
    /// The operation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub operation_id: Uuid,
    /// From 1, without gaps.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// When, by the database's clock.
    pub at: i64,
    /// The event whole, canonical JSON (RFC 8785).
    #[sea_orm(column_type = "Text")]
    pub event: String,
    /// State before; null for the first.
    pub from_state: Option<String>,
    /// State after.
    pub to_state: String,
    /// Who: `user:NAME`, `worker:ID`, `engine`, `clock`.
    pub actor: String,
    /// For people.
    #[sea_orm(column_type = "Text")]
    pub detail: Option<String>,
    /// BLAKE3 over the previous digest and this row.
    #[sea_orm(column_type = "VarBinary(StringLen::None)")]
    pub digest: Vec<u8>,
}

/// What the index `history_user` has: what people did; see `operation::READY`.
pub const BY_USER: &str = "substr(actor, 1, 5) = 'user:'";

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
