//! `remains`: what an abandoned undo may have left: it stays booked, in a store until a sweep finds nothing of it.

use sea_orm::entity::prelude::*;

/// What an abandoned undo may have left: it stays booked, in a store until a sweep finds nothing of it.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "remains")]
pub struct Model {
    /// Id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The operation.
    pub operation_id: Uuid,
    /// The place.
    pub place_id: i32,
    /// Bytes.
    pub bytes: i64,
    /// What.
    #[sea_orm(column_type = "JsonBinary")]
    pub what: Json,
    /// When.
    pub at: i64,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
