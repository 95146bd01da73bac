//! The site in the database: reading it with what is in use, and the one transaction that changes it.

use super::{Change, How, Known, check, difference, places, settled};
use crate::database::{Database, Failed, Transaction};
use anyhow::{Context, anyhow};
use longshore_schema::{
    fault::Fault,
    site::{Place, Role, Site, Size, User, Zone},
    tables::{claim, operation, pack, place, remains, reservation, site, tenant_user, zone},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    sea_query::Expr,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Reads the site.
pub async fn read(db: &impl ConnectionTrait) -> Result<Known, Failed> {
    let row = site::Entity::find_by_id(1).one(db).await?;
    let row = row.ok_or_else(|| anyhow!("the database has no site row; was it migrated?"))?;
    let mut known = Known { version: row.version, incarnation: row.incarnation, ..Known::default() };
    for row in zone::Entity::find().order_by_asc(zone::Column::Name).all(db).await? {
        if let Some(why) = zone_in_use(db, &row.name).await? {
            known.zones_in_use.insert(row.name.clone(), why);
        }
        let path = serde_json::from_value(Value::String(row.path))?;
        known.site.zones.push(Zone { name: row.name, region: row.region, path });
    }
    for row in place::Entity::find().order_by_asc(place::Column::Name).all(db).await? {
        let definition = serde_json::from_value(row.definition.clone());
        match definition.with_context(|| format!("read the definition of place {}", row.name))? {
            Place::Pool(pool) => known.site.pools.push(pool),
            Place::Store { store, .. } => known.site.stores.push(store),
        }
        if let Some(why) = place_in_use(db, &row).await? {
            known.places_in_use.insert(row.name.clone(), why);
        }
        known.places.insert(row.name.clone(), row);
    }
    let order = [tenant_user::Column::UserName, tenant_user::Column::IsDefault];
    let users = tenant_user::Entity::find().order_by_asc(order[0]).order_by_desc(order[1]);
    for row in users.order_by_asc(tenant_user::Column::Tenant).all(db).await? {
        match known.site.users.last_mut().filter(|it| it.name == row.user_name) {
            Some(user) => user.tenants.push(row.tenant),
            None => known.site.users.push(User { name: row.user_name, tenants: vec![row.tenant] }),
        }
    }
    Ok(known)
}

/// Makes the database's site the file's, if it is still what `known` says. `Conflict`: somebody else was faster.
/// Stores were founded before, and `site` has their extent sizes. Returns what changed.
pub async fn apply(database: &Database, known: &Known, site: &Site) -> Result<Result<Vec<Change>, Fault>, Failed> {
    let (version, wanted) = (known.version, settled(known, site));
    database.transact(move |tx| Box::pin(async move { change(tx, version, &wanted).await })).await
}

async fn change(tx: &Transaction, version: i64, wanted: &Site) -> Result<Result<Vec<Change>, Fault>, Failed> {
    let guard = site::Entity::update_many()
        .col_expr(site::Column::Version, Expr::col(site::Column::Version).add(1))
        .filter(site::Column::Id.eq(1))
        .filter(site::Column::Version.eq(version));
    if guard.exec(tx).await?.rows_affected != 1 {
        return Err(Failed::Conflict("the site was changed meanwhile".into()));
    }
    // Read again: what was free when it was looked at may be in use now.
    let known = read(tx).await?;
    let changes = match difference(&known, wanted).and_then(|it| check(&it).map(|()| it)) {
        Ok(changes) => changes,
        Err(fault) => return Ok(Err(fault)),
    };
    for change in &changes {
        write(tx, &known, wanted, change).await?;
    }
    Ok(Ok(changes))
}

async fn write(tx: &impl ConnectionTrait, known: &Known, wanted: &Site, change: &Change) -> Result<(), Failed> {
    match (change.what, &change.how) {
        ("zone", How::Removed) => {
            zone::Entity::delete_by_id(change.name.clone()).exec(tx).await?;
        }
        ("zone", _) => {
            let Some(new) = wanted.zones.iter().find(|it| it.name == change.name) else { return Ok(()) };
            zone::Entity::delete_by_id(new.name.clone()).exec(tx).await?;
            let path = serde_json::to_value(new.path)?.as_str().unwrap_or_default().to_owned();
            let row = zone::Model { name: new.name.clone(), region: new.region.clone(), path };
            zone::Entity::insert(zone::ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
        }
        ("user", _) => {
            let ours = tenant_user::Column::UserName.eq(&change.name);
            tenant_user::Entity::delete_many().filter(ours).exec(tx).await?;
            let tenants = wanted.users.iter().filter(|it| it.name == change.name).flat_map(|it| &it.tenants);
            let mut seen = BTreeSet::new();
            for tenant in tenants {
                let is_default = seen.is_empty();
                if !seen.insert(tenant) {
                    continue;
                }
                let row = tenant_user::Model { user_name: change.name.clone(), tenant: tenant.clone(), is_default };
                tenant_user::Entity::insert(tenant_user::ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
            }
        }
        (_, How::Removed) => {
            if let Some(row) = known.places.get(&change.name) {
                remove_place(tx, row).await?;
            }
        }
        (_, How::Added { .. } | How::Changed { .. }) => {
            let new = places(wanted, known.incarnation).find(|(name, _)| *name == change.name);
            if let Some((_, place)) = new {
                write_place(tx, known.places.get(&change.name), &place).await?;
            }
        }
    }
    Ok(())
}

/// Guarded by the row's version: a place that was booked meanwhile stays.
async fn remove_place(tx: &impl ConnectionTrait, row: &place::Model) -> Result<(), Failed> {
    let removed = place::Entity::delete_many()
        .filter(place::Column::Id.eq(row.id))
        .filter(place::Column::Version.eq(row.version))
        .filter(place::Column::Reserved.eq(0))
        .filter(place::Column::Used.eq(0));
    match removed.exec(tx).await?.rows_affected {
        1 => Ok(()),
        _ => Err(Failed::Conflict(format!("place {} is in use now", row.name))),
    }
}

async fn write_place(tx: &impl ConnectionTrait, known: Option<&place::Model>, place: &Place) -> Result<(), Failed> {
    let bytes = |size: Size| i64::try_from(size.0).unwrap_or(i64::MAX);
    let mut row = match place {
        Place::Pool(pool) => place::ActiveModel {
            role: Set(Role::Pool.as_str().to_owned()),
            name: Set(pool.name.clone()),
            zone: Set(Some(pool.zone.clone())),
            region: Set(None),
            url: Set(pool.url.clone()),
            total: Set(bytes(pool.capacity)),
            overcommit: Set(pool.overcommit),
            threshold: Set(pool.threshold),
            extent_size: Set(0),
            incarnation: Set(None),
            ..Default::default()
        },
        Place::Store { store, incarnation } => place::ActiveModel {
            role: Set(Role::Store.as_str().to_owned()),
            name: Set(store.name.clone()),
            zone: Set(store.zone.clone()),
            region: Set(store.region.clone()),
            url: Set(store.url.clone()),
            total: Set(bytes(store.capacity)),
            overcommit: Set(store.overcommit),
            threshold: Set(store.threshold),
            extent_size: Set(store.extent_size.and_then(|it| i32::try_from(it.0).ok()).unwrap_or(0)),
            incarnation: Set(Some(*incarnation)),
            ..Default::default()
        },
    };
    row.definition = Set(serde_json::to_value(place)?);
    match known {
        None => {
            row.physical_used = Set(0);
            row.promised = Set(0);
            row.reserved = Set(0);
            row.used = Set(0);
            row.version = Set(0);
            place::Entity::insert(row).exec_without_returning(tx).await?;
            Ok(())
        }
        Some(known) => {
            row.version = Set(known.version + 1);
            let guarded = place::Entity::update_many()
                .set(row)
                .filter(place::Column::Id.eq(known.id))
                .filter(place::Column::Version.eq(known.version));
            match guarded.exec(tx).await?.rows_affected {
                1 => Ok(()),
                _ => Err(Failed::Conflict(format!("place {} is being booked", known.name))),
            }
        }
    }
}

const UNFINISHED: [&str; 3] = ["allocated", "copying", "destroying"];
const LIVE: [&str; 4] = ["allocated", "copying", "ready", "destroying"];

async fn zone_in_use(db: &impl ConnectionTrait, name: &str) -> Result<Option<String>, Failed> {
    // What is Ready and in no place is a report: it needs no zone any more.
    let unfinished = operation::Column::State.is_in(UNFINISHED);
    let somewhere = operation::Column::Store.is_not_null().or(operation::Column::Subject.is_not_null());
    let live = operation::Entity::find()
        .filter(operation::Column::Zone.eq(name))
        .filter(unfinished.or(operation::Column::State.eq("ready").and(somewhere)));
    Ok(live.one(db).await?.map(|it| format!("operation {} ({}) is {}", it.id, it.kind, it.state)))
}

async fn place_in_use(db: &impl ConnectionTrait, row: &place::Model) -> Result<Option<String>, Failed> {
    let held = reservation::Entity::find().filter(reservation::Column::PlaceId.eq(row.id));
    if let Some(held) = held.filter(reservation::Column::State.eq("held")).one(db).await? {
        return Ok(Some(format!("operation {} has a reservation in it", held.operation_id)));
    }
    if let Some(pack) = pack::Entity::find().filter(pack::Column::PlaceId.eq(row.id)).one(db).await? {
        return Ok(Some(format!("pack {} is in it; `longshore list` shows whose", pack.id)));
    }
    if let Some(remains) = remains::Entity::find().filter(remains::Column::PlaceId.eq(row.id)).one(db).await? {
        return Ok(Some(format!("what operation {} left may be in it", remains.operation_id)));
    }
    let of_store = operation::Column::Store.eq(&row.name);
    let of_pool = operation::Column::Subject.starts_with(format!("{}/", row.name));
    let live = operation::Entity::find().filter(operation::Column::State.is_in(LIVE)).filter(of_store.or(of_pool));
    if let Some(live) = live.one(db).await? {
        return Ok(Some(format!("operation {} ({}) is {}", live.id, live.kind, live.state)));
    }
    let swept = claim::Entity::find_by_id(format!("sweep:{}", row.name)).one(db).await?;
    Ok(swept.map(|it| format!("operation {} sweeps it", it.operation_id)))
}
