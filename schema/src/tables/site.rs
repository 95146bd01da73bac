//! `site`: one row: the database's incarnation and the version of the site.

use sea_orm::entity::prelude::*;

/// One row: the database's incarnation and the version of the site.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "site")]
pub struct Model {
    /// Id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Incarnation.
    pub incarnation: Uuid,
    /// Guards updates.
    pub version: i64,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
