//! `hold`: an operation uses an object, which is therefore not destroyed.

use sea_orm::entity::prelude::*;

/// An operation uses an object, which is therefore not destroyed.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "hold")]
pub struct Model {
    /// Object id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub object_id: Uuid,
    /// Holder id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub holder_id: Uuid,
    /// `use chain`.
    pub kind: String,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
