//! `pack_use`: an object refers to a pack.

use sea_orm::entity::prelude::*;

/// An object refers to a pack.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "pack_use")]
pub struct Model {
    /// Object id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub object_id: Uuid,
    /// Pack id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pack_id: String,
    /// The object refers to less than a quarter of the pack's bytes.
    pub sparse: bool,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
