//! `place`: a pool, store or staging area, and the totals of its ledger.

use sea_orm::entity::prelude::*;

/// A pool, store or staging area, and the totals of its ledger.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "place")]
pub struct Model {
    /// Id.
    #[sea_orm(primary_key)]
    pub id: i32,
    /// `pool store staging`.
    pub role: String,
    /// Its name.
    #[sea_orm(unique)]
    pub name: String,
    /// Its zone; or a region.
    pub zone: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Url.
    pub url: String,
    /// Its entry of the site file.
    #[sea_orm(column_type = "JsonBinary")]
    pub definition: Json,
    /// Bytes.
    pub total: i64,
    /// As last measured.
    pub physical_used: i64,
    /// Granted and not yet in a measurement.
    pub promised: i64,
    /// Sum of live reservations.
    pub reserved: i64,
    /// Sum of packs, roots, volumes and remains.
    pub used: i64,
    /// Overcommit.
    pub overcommit: f64,
    /// Threshold.
    pub threshold: f64,
    /// Stores: bytes of an extent; 0 elsewhere.
    pub extent_size: i32,
    /// Stores: the database that owns it.
    pub incarnation: Option<Uuid>,
    /// Guards updates.
    pub version: i64,
    /// Measured at.
    pub measured_at: Option<i64>,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
