//! `message_seen`: a command that was answered, and how: the same message gets the same answer for ever.

use sea_orm::entity::prelude::*;

/// A command that was answered, and how: the same message gets the same answer for ever.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "message_seen")]
pub struct Model {
    /// The tenant that the message names; empty if it names none.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    /// User name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_name: String,
    /// Message id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: String,
    /// BLAKE3 of the body as canonical JSON.
    #[sea_orm(column_type = "VarBinary(StringLen::None)")]
    pub digest: Vec<u8>,
    /// Reply.
    #[sea_orm(column_type = "JsonBinary")]
    pub reply: Json,
    /// When.
    pub at: i64,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
