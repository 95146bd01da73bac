//! `outbox`: a message that must reach the broker; deleted when confirmed.

use sea_orm::entity::prelude::*;

/// A message that must reach the broker; deleted when confirmed.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Mandatory.
    pub mandatory: bool,
    /// Properties.
    #[sea_orm(column_type = "JsonBinary")]
    pub properties: Json,
    /// JSON.
    #[sea_orm(column_type = "Text")]
    pub body: String,
    /// Worthless after this.
    pub expires_at: Option<i64>,
    /// An engine is publishing it until then.
    pub claimed_until: i64,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
