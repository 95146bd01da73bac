//! The clock's queries. Each is served by a partial index over what is under way, so that what is over costs nothing,
//! however much of it there is.

use super::LIMIT;
use crate::mutant::{self, Mutant};
use longshore_schema::{
    tables::{operation, pack, remains, step},
    time::Timestamp,
};
use sea_orm::{
    ColumnTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
    Statement, sea_query::Expr,
};

/// Steps with something to do: a retry whose pause is over, an attempt whose start, bound or lease is.
pub fn steps(now: Timestamp) -> Select<step::Entity> {
    step::Entity::find().filter(step::Column::DueAt.lte(now.0)).order_by_asc(step::Column::DueAt).limit(LIMIT)
}

/// Ids of operations whose deadline is over.
pub fn deadlines(now: Timestamp) -> Select<operation::Entity> {
    let found = operation::Entity::find()
        .select_only()
        .column(operation::Column::Id)
        .filter(Expr::cust(operation::UNDER_WAY))
        .filter(operation::Column::Deadline.lte(now.0))
        .filter(operation::Column::StopRequested.eq(false))
        .order_by_asc(operation::Column::Deadline)
        .limit(LIMIT);
    match mutant::is(Mutant::DeadlinesOfWaiters) {
        true => found.filter(operation::Column::WaitingPlace.is_not_null()),
        false => found,
    }
}

/// Ids of objects whose destruction was asked for while they were held, and that nobody holds any more.
pub fn destroys() -> Select<operation::Entity> {
    operation::Entity::find()
        .select_only()
        .column(operation::Column::Id)
        .filter(Expr::cust(operation::TO_DESTROY))
        // The same once more: two equal columns are what SQLite chooses the index by.
        .filter(operation::Column::DestroyRequested.eq(true))
        .filter(operation::Column::Holders.eq(0))
        .limit(LIMIT)
}

/// Places whose space somebody waits for.
pub fn waiting_places() -> Select<operation::Entity> {
    operation::Entity::find()
        .select_only()
        .column(operation::Column::WaitingPlace)
        .filter(operation::Column::WaitingPlace.is_not_null())
        .distinct()
}

/// Queues for which something waits in the database.
pub fn queues() -> Select<step::Entity> {
    step::Entity::find().select_only().column(step::Column::Queue).filter(Expr::cust(step::UNSENT)).distinct()
}

/// Ids of stores in which packs are due to be removed.
pub fn sweeps(now: Timestamp) -> Select<pack::Entity> {
    pack::Entity::find()
        .select_only()
        .column(pack::Column::PlaceId)
        .filter(Expr::cust(pack::DYING))
        .filter(pack::Column::NotBefore.lt(now.0))
        .distinct()
}

/// Since when something may remain in a place.
#[derive(Debug, FromQueryResult)]
pub struct Remaining {
    /// The place's row.
    pub place_id: i32,
    /// When the first was abandoned, microseconds.
    pub at: i64,
}

/// Of each place in which something may remain of abandoned operations: since when.
pub fn remains() -> Select<remains::Entity> {
    remains::Entity::find()
        .select_only()
        .column(remains::Column::PlaceId)
        .column_as(remains::Column::At.min(), "at")
        .group_by(remains::Column::PlaceId)
}

/// All of them with their names, for whoever looks at their plans.
pub fn statements(backend: DatabaseBackend, now: Timestamp) -> Vec<(&'static str, Statement)> {
    vec![
        ("due steps", steps(now).build(backend)),
        ("deadlines", deadlines(now).build(backend)),
        ("destroys", destroys().build(backend)),
        ("waiting places", waiting_places().build(backend)),
        ("queues", queues().build(backend)),
        ("sweeps", sweeps(now).build(backend)),
        ("remains", remains().build(backend)),
    ]
}
