//! `worker`: a worker, as it last announced itself.

use sea_orm::entity::prelude::*;

/// A worker, as it last announced itself.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "worker")]
pub struct Model {
    /// Id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Incarnation.
    pub incarnation: Uuid,
    /// Kind.
    pub kind: String,
    /// Host.
    pub host: String,
    /// Zone.
    pub zone: String,
    /// `wire::Announce`.
    #[sea_orm(column_type = "JsonBinary")]
    pub announced: Json,
    /// Leaving.
    pub leaving: bool,
    /// Seen at.
    pub seen_at: i64,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
