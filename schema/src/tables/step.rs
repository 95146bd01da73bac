//! `step`: one step of an operation: where its current attempt is.

use sea_orm::entity::prelude::*;

/// One step of an operation: where its current attempt is.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "step")]
pub struct Model {
    /// The operation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub operation_id: Uuid,
    /// Place in the plan, from 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i16,
    /// The step's name, or the engine step's.
    pub name: String,
    /// `sent running resting done faulted undone abandoned`; a planned one has no row.
    pub state: String,
    /// `do probe undo`: of the current attempt.
    pub way: String,
    /// The current attempt's number.
    pub attempt: i32,
    /// How many attempts failed since it last went well.
    pub failures: i32,
    /// Routing key on `longshore.steps`.
    pub queue: String,
    /// The operation's.
    pub priority: i16,
    /// Who runs it.
    pub worker: Option<String>,
    /// A worker never starts it later; null while it waits in the database to be sent.
    pub start_before: Option<i64>,
    /// When the engine acts on it if nothing is heard: a retry, or a lease or start that is over.
    pub due_at: Option<i64>,
    /// Progress.
    pub done_bytes: i64,
    /// Progress.
    pub total_bytes: Option<i64>,
    /// What it reported.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub output: Option<Json>,
    /// Its last fault.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub fault: Option<Json>,
}

/// What the index `step_unsent` has; see `operation::READY`.
pub const UNSENT: &str = "state = 'sent' AND start_before IS NULL";

/// None: rows are joined where they are read.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
