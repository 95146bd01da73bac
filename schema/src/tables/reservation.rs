//! `reservation`: an operation may fill bytes of a place.

use sea_orm::entity::prelude::*;

/// An operation may fill bytes of a place.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reservation")]
pub struct Model {
    /// The operation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub operation_id: Uuid,
    /// The place.
    #[sea_orm(primary_key, auto_increment = false)]
    pub place_id: i32,
    /// Granted and not yet used.
    pub bytes_reserved: i64,
    /// Booked outside of packs: a root, a volume.
    pub bytes_used: i64,
    /// What it added to `promised`.
    pub physical: i64,
    /// `held ended`.
    pub state: String,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
