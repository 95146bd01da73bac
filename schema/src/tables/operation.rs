//! `operation`: one operation and the object that it makes: the row that every transition is guarded by.

use sea_orm::entity::prelude::*;

/// One operation and the object that it makes: the row that every transition is guarded by.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "operation")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// As in `engine::operation`.
    pub kind: String,
    /// The zone, or the region for what has none.
    pub zone: String,
    /// Whose.
    pub tenant: String,
    /// The broker's user that asked.
    pub user_name: Option<String>,
    /// Given by the command.
    pub name: Option<String>,
    /// `pool/volume` that it reads or makes: lineage is looked up by it.
    pub subject: Option<String>,
    /// The store that has the object, for what lives in one.
    pub store: Option<String>,
    /// `allocated copying ready destroying destroyed failed`.
    pub state: String,
    /// Where Destroying leads: `failed` or `destroyed`.
    pub end_state: Option<String>,
    /// What it waits for, for people.
    pub waiting_for: Option<String>,
    /// The place whose space it waits for.
    pub waiting_place: Option<String>,
    /// How much it waits for.
    pub waiting_bytes: i64,
    /// Since when.
    pub waiting_since: Option<i64>,
    /// The command's body.
    #[sea_orm(column_type = "JsonBinary")]
    pub params: Json,
    /// `engine::plan::Plan`, whole.
    #[sea_orm(column_type = "JsonBinary")]
    pub plan: Json,
    /// What it made, once Ready.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub output: Option<Json>,
    /// Why it failed, or goes back.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub fault: Option<Json>,
    /// 0 to 9.
    pub priority: i16,
    /// Microseconds since 1970.
    pub deadline: i64,
    /// A cancel or the deadline came while the commit step was on its way.
    pub stop_requested: bool,
    /// Destroy when the last hold goes.
    pub destroy_requested: bool,
    /// Undoing fails again and again.
    pub needs_attention: bool,
    /// Live holds on it; new ones only while Ready and no destroy was asked for.
    pub holders: i32,
    /// The number of its last history row.
    pub version: i64,
    /// Digest of its last history row.
    #[sea_orm(column_type = "VarBinary(StringLen::None)")]
    pub digest: Vec<u8>,
    /// When it was accepted.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
    /// When it was last held.
    pub last_used_at: i64,
}

/// What the index `operation_subject` has. Predicates of partial indexes stand in queries as they are here and not as values:
/// a plan that is kept for any value couldn't use the index.
pub const READY: &str = "state = 'ready'";
/// What the index `operation_destroy` has.
pub const TO_DESTROY: &str = "state = 'ready' AND destroy_requested";
/// What the index `operation_deadline` has.
pub const UNDER_WAY: &str = "state IN ('allocated', 'copying')";

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
