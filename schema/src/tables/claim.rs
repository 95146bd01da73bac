//! `claim`: this operation alone may write that outside name.

use sea_orm::entity::prelude::*;

/// This operation alone may write that outside name.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "claim")]
pub struct Model {
    /// `volume:POOL/NAME`, `anchor:POOL/NAME`, `sweep:STORE`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub resource: String,
    /// The operation.
    pub operation_id: Uuid,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
