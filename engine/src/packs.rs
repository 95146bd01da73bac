//! Packs: the only thing in a store that is shared, counted and collected. Rows follow what workers sealed;
//! uses follow what Ready objects refer to; a pack without uses is condemned, and swept after the grace.

use crate::{
    database::{Failed, Transaction},
    ledger::Ledger,
    mutant::{self, Mutant},
};
use longshore_schema::{
    ids::{OperationId, PackId},
    site::Place,
    steps::object::Sealed,
    tables::{pack, pack_use, place, reservation},
    time::Timestamp,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, OnConflict, Query},
};

/// How many ids go into one statement.
const CHUNK: usize = 500;

/// One backup stores what it needs of so many sparse packs again, each less than a quarter of a pack.
const MOST_REPACKED: u64 = 256;

/// Records sealed packs: a row and a use each; their bytes move from reserved to used. Known ones are left alone. The inner
/// error says that the operation's books don't allow it: what was recorded before that is as it should be, and stays.
pub async fn record(
    tx: &Transaction,
    ledger: &mut Ledger,
    operation: OperationId,
    sealed: &[Sealed],
) -> Result<anyhow::Result<()>, Failed> {
    // A pack that two attempts found is named twice.
    let sealed: std::collections::BTreeMap<_, _> = sealed.iter().map(|it| (&it.id, it)).collect();
    let mut sealed: Vec<Sealed> = sealed.into_values().filter(|it| it.id.operation == operation).cloned().collect();
    if mutant::is(Mutant::BookHalfOfPacks) {
        sealed.iter_mut().for_each(|it| it.bytes /= 2);
    }
    for chunk in sealed.chunks(CHUNK) {
        let new = unknown(tx, chunk).await?;
        if new.is_empty() {
            continue;
        }
        let held = reservation::Entity::find()
            .filter(reservation::Column::OperationId.eq(operation.0))
            .filter(reservation::Column::State.eq("held"));
        let Some(held) = held.one(tx).await? else {
            return Ok(Err(anyhow::anyhow!("operation {operation} sealed packs without a reservation")));
        };
        let bytes: i64 = new.iter().map(|it| to_i64(it.bytes)).sum();
        let moved = reservation::Entity::update_many()
            .col_expr(reservation::Column::BytesReserved, Expr::col(reservation::Column::BytesReserved).sub(bytes))
            .filter(reservation::Column::OperationId.eq(operation.0))
            .filter(reservation::Column::PlaceId.eq(held.place_id))
            .filter(reservation::Column::State.eq("held"))
            .filter(reservation::Column::BytesReserved.gte(bytes));
        if moved.exec(tx).await?.rows_affected != 1 {
            return Ok(Err(anyhow::anyhow!("operation {operation} sealed more than it had reserved")));
        }
        ledger.adjust(tx, held.place_id, -bytes, bytes, 0).await?;
        let rows = new.iter().map(|it| pack::ActiveModel {
            id: Set(it.id.to_string()),
            place_id: Set(held.place_id),
            operation_id: Set(operation.0),
            bytes: Set(to_i64(it.bytes)),
            uses: Set(1),
            state: Set("live".into()),
            not_before: Set(None),
            version: Set(0),
        });
        pack::Entity::insert_many(rows).exec_without_returning(tx).await?;
        let uses = new.iter().map(|it| pack_use::ActiveModel {
            object_id: Set(operation.0),
            pack_id: Set(it.id.to_string()),
            sparse: Set(false),
        });
        pack_use::Entity::insert_many(uses).exec_without_returning(tx).await?;
    }
    Ok(Ok(()))
}

/// A new object takes over its base's uses, but for those packs that it doesn't refer to.
pub async fn inherit(tx: &Transaction, object: OperationId, base: OperationId, dropped: &[PackId]) -> Result<(), Failed> {
    let dropped: Vec<String> = dropped.iter().map(PackId::to_string).collect();
    let kept = |query: &mut sea_orm::sea_query::SelectStatement| {
        query.from(pack_use::Entity).and_where(pack_use::Column::ObjectId.eq(base.0));
        for chunk in dropped.chunks(CHUNK) {
            query.and_where(pack_use::Column::PackId.is_not_in(chunk.iter().cloned()));
        }
    };
    let mut ids = Query::select();
    ids.column(pack_use::Column::PackId);
    kept(&mut ids);
    let raised = pack::Entity::update_many()
        .col_expr(pack::Column::Uses, Expr::col(pack::Column::Uses).add(1))
        .col_expr(pack::Column::State, Expr::val("live"))
        .col_expr(pack::Column::NotBefore, Expr::val(None::<i64>))
        .filter(Expr::col(pack::Column::Id).in_subquery(ids))
        .filter(pack::Column::State.is_in(["live", "condemned"]));
    let raised = raised.exec(tx).await?.rows_affected;
    let mut rows = Query::select();
    rows.expr(Expr::val(object.0)).columns([pack_use::Column::PackId, pack_use::Column::Sparse]);
    kept(&mut rows);
    let mut insert = Query::insert();
    insert.into_table(pack_use::Entity).columns([pack_use::Column::ObjectId, pack_use::Column::PackId, pack_use::Column::Sparse]);
    insert.select_from(rows).map_err(|error| Failed::Internal(error.into()))?;
    insert.on_conflict(OnConflict::columns([pack_use::Column::ObjectId, pack_use::Column::PackId]).do_nothing().to_owned());
    let taken = tx.execute(&insert).await?.rows_affected();
    if raised != taken {
        return Err(Failed::Internal(anyhow::anyhow!("base {base} has {taken} packs, but {raised} of them are in use")));
    }
    Ok(())
}

/// An object refers to only a little of these packs. Others that it inherited as such stay so: what is taken over from a
/// base becomes less from object to object.
pub async fn mark_sparse(tx: &Transaction, object: OperationId, sparse: &[PackId]) -> Result<(), Failed> {
    for chunk in sparse.chunks(CHUNK) {
        pack_use::Entity::update_many()
            .col_expr(pack_use::Column::Sparse, Expr::val(true))
            .filter(pack_use::Column::ObjectId.eq(object.0))
            .filter(pack_use::Column::PackId.is_in(chunk.iter().map(PackId::to_string)))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Packs of an object that all who use them refer to only a little of, at most `MOST_REPACKED`, the oldest first.
pub async fn sparse(db: &impl ConnectionTrait, object: OperationId) -> Result<Vec<PackId>, Failed> {
    let other = Alias::new("other");
    let mut others = Query::select();
    others.expr(Expr::val(1)).from_as(pack_use::Entity, other.clone());
    others.and_where(Expr::col((other.clone(), pack_use::Column::PackId)).equals((pack_use::Entity, pack_use::Column::PackId)));
    others.and_where(Expr::col((other, pack_use::Column::Sparse)).eq(false));
    let found = pack_use::Entity::find()
        .select_only()
        .column(pack_use::Column::PackId)
        .filter(pack_use::Column::ObjectId.eq(object.0))
        .filter(pack_use::Column::Sparse.eq(true))
        .filter(Expr::exists(others).not())
        .order_by_asc(pack_use::Column::PackId)
        .limit(MOST_REPACKED);
    let ids: Vec<String> = found.into_tuple().all(db).await?;
    Ok(ids.iter().filter_map(|id| PackId::of_key(&format!("packs/{id}"))).collect())
}

/// An object of ours doesn't refer to these packs (any more); those without uses are condemned.
pub async fn drop_uses(tx: &Transaction, now: Timestamp, object: OperationId, only: Option<&[PackId]>) -> Result<(), Failed> {
    let used =
        pack_use::Entity::find().select_only().column(pack_use::Column::PackId).filter(pack_use::Column::ObjectId.eq(object.0));
    let mut ids: Vec<String> = used.into_tuple().all(tx).await?;
    if let Some(only) = only {
        let only: std::collections::HashSet<String> = only.iter().map(PackId::to_string).collect();
        ids.retain(|it| only.contains(it));
    }
    ids.sort_unstable();
    for chunk in ids.chunks(CHUNK) {
        let delete = pack_use::Entity::delete_many()
            .filter(pack_use::Column::ObjectId.eq(object.0))
            .filter(pack_use::Column::PackId.is_in(chunk.iter().cloned()));
        delete.exec(tx).await?;
        pack::Entity::update_many()
            .col_expr(pack::Column::Uses, Expr::col(pack::Column::Uses).sub(1))
            .filter(pack::Column::Id.is_in(chunk.iter().cloned()))
            .exec(tx)
            .await?;
        let unused = pack::Column::Id
            .is_in(chunk.iter().cloned())
            .and(pack::Column::Uses.lte(most_uses()))
            .and(pack::Column::State.eq("live"));
        let places = pack::Entity::find().select_only().column(pack::Column::PlaceId).filter(unused.clone()).distinct();
        for place_id in places.into_tuple::<i32>().all(tx).await? {
            condemn(tx, now, place_id, unused.clone()).await?;
        }
    }
    Ok(())
}

/// These packs of a place go after its grace, unless somebody takes them over before.
async fn condemn(tx: &Transaction, now: Timestamp, place_id: i32, unused: Expr) -> Result<(), Failed> {
    let grace = place::Entity::find_by_id(place_id).one(tx).await?.map_or(3600, |it| grace_s(&it));
    pack::Entity::update_many()
        .col_expr(pack::Column::State, Expr::val("condemned"))
        .col_expr(pack::Column::NotBefore, Expr::val(now.plus_s(grace).0))
        .filter(pack::Column::PlaceId.eq(place_id))
        .filter(unused)
        .exec(tx)
        .await?;
    Ok(())
}

/// How many uses a pack may have that is condemned.
fn most_uses() -> i32 {
    if mutant::is(Mutant::CondemnUsedPacks) { i32::MAX } else { 0 }
}

/// Seconds that a pack of this store stays after its last use.
pub fn grace_s(place: &place::Model) -> u64 {
    match serde_json::from_value(place.definition.clone()) {
        Ok(Place::Store { store, .. }) => store.grace_s.into(),
        Ok(Place::Pool(_)) | Err(_) => 3600,
    }
}

/// The store confirmed that all packs of a failed operation are gone: so are their rows and their bytes.
pub async fn forget_all_of(tx: &Transaction, ledger: &mut Ledger, operation: OperationId) -> Result<(), Failed> {
    let rows = pack::Entity::find().filter(pack::Column::OperationId.eq(operation.0)).all(tx).await?;
    forget(tx, ledger, &rows).await
}

/// Rows and bytes of packs that the store confirmed to be gone.
pub async fn forget(tx: &Transaction, ledger: &mut Ledger, rows: &[pack::Model]) -> Result<(), Failed> {
    for chunk in rows.chunks(CHUNK) {
        let ids: Vec<String> = chunk.iter().map(|it| it.id.clone()).collect();
        pack_use::Entity::delete_many().filter(pack_use::Column::PackId.is_in(ids.clone())).exec(tx).await?;
        let deleted = pack::Entity::delete_many().filter(pack::Column::Id.is_in(ids)).exec(tx).await?.rows_affected;
        if deleted != chunk.len() as u64 {
            return Err(Failed::Conflict("packs were forgotten meanwhile".into()));
        }
    }
    let mut by_place = std::collections::BTreeMap::<i32, i64>::new();
    for row in rows {
        *by_place.entry(row.place_id).or_default() += row.bytes;
    }
    for (place, bytes) in by_place {
        ledger.adjust(tx, place, 0, -bytes, 0).await?;
    }
    Ok(())
}

/// Marks what may be deleted now: condemned packs whose grace is over and that nobody uses, and those of a
/// sweep that died. At most `limit`.
pub async fn begin_deleting(tx: &Transaction, now: Timestamp, place_id: i32, limit: u64) -> Result<Vec<pack::Model>, Failed> {
    let now = if mutant::is(Mutant::SweepAtOnce) { Timestamp(i64::MAX) } else { now };
    let due = pack::Entity::find()
        .filter(pack::Column::PlaceId.eq(place_id))
        .filter(Expr::cust(pack::DYING))
        .filter(pack::Column::State.eq("deleting").or(pack::Column::State.eq("condemned").and(pack::Column::NotBefore.lt(now.0))))
        .filter(pack::Column::Uses.eq(0))
        .limit(limit);
    let mut chosen = vec![];
    for row in due.all(tx).await? {
        let marked = pack::Entity::update_many()
            .col_expr(pack::Column::State, Expr::val("deleting"))
            .filter(pack::Column::Id.eq(&row.id))
            .filter(pack::Column::Uses.eq(0))
            .filter(pack::Column::State.is_in(["condemned", "deleting"]))
            .filter(pack::Column::NotBefore.lt(now.0));
        if marked.exec(tx).await?.rows_affected == 1 {
            chosen.push(row);
        }
    }
    Ok(chosen)
}

/// Which of these packs have no row: nobody of ours knows them.
pub async fn unknown<'s>(tx: &Transaction, found: &'s [Sealed]) -> Result<Vec<&'s Sealed>, Failed> {
    let mut unknown = vec![];
    for chunk in found.chunks(CHUNK) {
        let ids: Vec<String> = chunk.iter().map(|it| it.id.to_string()).collect();
        let known: Vec<String> = pack::Entity::find()
            .select_only()
            .column(pack::Column::Id)
            .filter(pack::Column::Id.is_in(ids))
            .into_tuple()
            .all(tx)
            .await?;
        unknown.extend(chunk.iter().filter(|it| !known.contains(&it.id.to_string())));
    }
    Ok(unknown)
}

/// A number of bytes for the database.
pub fn to_i64(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
