//! `anchor`: a snapshot, checkpoint or bitmap kept on a hypervisor as the base of the next incremental.

use sea_orm::entity::prelude::*;

/// A snapshot, checkpoint or bitmap kept on a hypervisor as the base of the next incremental.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "anchor")]
pub struct Model {
    /// Tag.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tag: String,
    /// `pool/volume`.
    pub volume: String,
    /// The operation.
    pub operation_id: Uuid,
    /// `making live removing`.
    pub state: String,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
