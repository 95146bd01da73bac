//! `queue`: how many unstarted steps are in a queue of the broker: the rest wait in the database.

use sea_orm::entity::prelude::*;

/// How many unstarted steps are in a queue of the broker: the rest wait in the database.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "queue")]
pub struct Model {
    /// Routing key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Unstarted.
    pub unstarted: i32,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
