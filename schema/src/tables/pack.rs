//! `pack`: a pack in a store.

use sea_orm::entity::prelude::*;

/// A pack in a store.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "pack")]
pub struct Model {
    /// `{operation}/{attempt}-{n}`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The place.
    pub place_id: i32,
    /// Who wrote it.
    pub operation_id: Uuid,
    /// Bytes.
    pub bytes: i64,
    /// Number of `pack_use` rows.
    pub uses: i32,
    /// `live condemned deleting`.
    pub state: String,
    /// A condemned one is deleted after this.
    pub not_before: Option<i64>,
    /// Guards updates.
    pub version: i64,
}

/// What the index `pack_dying` has; see `operation::READY`.
pub const DYING: &str = "state <> 'live'";

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
