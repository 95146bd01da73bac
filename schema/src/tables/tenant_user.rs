//! `tenant_user`: a user of the broker may act for a tenant.

use sea_orm::entity::prelude::*;

/// A user of the broker may act for a tenant.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_user")]
pub struct Model {
    /// User name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_name: String,
    /// Tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    /// Is default.
    pub is_default: bool,
}

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
