//! Reads the world from the database, for planning.

use crate::{
    config::Config,
    database::Failed,
    mutant::{self, Mutant},
    operation::{Operation, backup_snapshot::BackupSnapshot, copy_object::CopyObject, create_volume::CreateVolume},
    packs,
    world::{Object, Seen, Surroundings, Touch, Worker, World, Zone},
};
use anyhow::Context;
use longshore_schema::{
    ids::OperationId,
    site::Place,
    tables::{operation, place, worker, zone},
    time::Timestamp,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Select, sea_query::Expr};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// Workers that were not heard of for this long are forgotten by planning.
const FORGOTTEN_S: i64 = 86_400;

/// Reads all zones and workers.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn surroundings(db: &impl ConnectionTrait, now: Timestamp, config: Config) -> Result<Surroundings, Failed> {
    let mut zones = BTreeMap::new();
    for row in zone::Entity::find().all(db).await? {
        let path = serde_json::from_value(Value::String(row.path))?;
        zones.insert(row.name, Zone { region: row.region, path });
    }
    let known = worker::Entity::find()
        .filter(worker::Column::SeenAt.gt(now.0 - FORGOTTEN_S * 1_000_000))
        .order_by_asc(worker::Column::Id);
    let mut workers = vec![];
    for row in known.all(db).await? {
        let silent = now.0 - row.seen_at > i64::from(config.worker_silence_s) * 1_000_000;
        workers.push(Worker { announced: serde_json::from_value(row.announced)?, live: !silent && !row.leaving });
    }
    Ok(Surroundings { zones: Arc::new(zones), workers: Arc::new(workers), ..Surroundings::default() })
}

/// Reads what a command touches.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn read(db: &impl ConnectionTrait, around: Surroundings, touches: Vec<Touch>) -> Result<World, Failed> {
    let mut world = World { zones: around.zones, workers: around.workers, ..World::default() };
    for touch in touches {
        match touch {
            // All of them are read anyway.
            Touch::Zone(_) => (),
            Touch::Place(name) => read_place(db, &mut world, &name).await?,
            Touch::Object(id) => {
                read_object(db, &mut world, id).await?;
            }
            Touch::Base(id) => {
                if let Some(object) = read_object(db, &mut world, id).await? {
                    object.sparse = packs::sparse(db, id).await?;
                }
            }
            Touch::Lineage { subject, store, tenant } => {
                world.lineage = lineage(db, &around.fresh, &subject, &store, &tenant).await?;
            }
            Touch::Kin { object, store, tenant } => {
                if !world.objects.contains_key(&object) {
                    read_object(db, &mut world, object).await?;
                }
                if let Some(subject) = world.objects.get(&object).and_then(|it| it.subject.clone()) {
                    world.lineage = kin(db, &around.fresh, &subject, &store, &tenant).await?;
                }
            }
        }
    }
    if let Some(object) = &mut world.lineage {
        object.sparse = packs::sparse(db, object.id).await?;
    }
    Ok(world)
}

async fn read_object<'w>(
    db: &impl ConnectionTrait,
    world: &'w mut World,
    id: OperationId,
) -> Result<Option<&'w mut Object>, Failed> {
    let Some(row) = operation::Entity::find_by_id(id.0).one(db).await? else { return Ok(None) };
    let object = object_of(row);
    if let Some(store) = &object.store {
        read_place(db, world, store).await?;
    }
    world.objects.insert(id, object);
    Ok(world.objects.get_mut(&id))
}

async fn read_place(db: &impl ConnectionTrait, world: &mut World, name: &str) -> Result<(), Failed> {
    if let Some(row) = place::Entity::find().filter(place::Column::Name.eq(name)).one(db).await? {
        let place: Place =
            serde_json::from_value(row.definition).with_context(|| format!("read the definition of place {name}"))?;
        world.places.insert(name.to_owned(), Seen { place, extent_size: u32::try_from(row.extent_size).unwrap_or(0) });
    }
    Ok(())
}

/// The latest object of a volume in a store: a backup of it, or what it was made from. `fresh`: what became Ready just now.
async fn lineage(
    db: &impl ConnectionTrait,
    fresh: &[operation::Model],
    subject: &str,
    store: &str,
    tenant: &str,
) -> Result<Option<Object>, Failed> {
    let (backup, made) = (backups_of(subject, store, tenant), made_as(subject, tenant));
    let (backup, made) = (backup.one(db).await?, made.one(db).await?);
    let of_kind = |kind| fresh_of(fresh, kind, subject, tenant);
    let backup = of_kind(BackupSnapshot::KIND).filter(|it| it.store.as_deref() == Some(store)).chain(backup);
    let backup = backup.max_by_key(|it| it.id);
    let made = of_kind(CreateVolume::KIND).chain(made).max_by_key(|it| it.id);
    if let Some(made) = &made
        && backup.as_ref().is_none_or(|it| it.id < made.id)
        && let Some(from) = made.output.as_ref().and_then(|it| it["from"].as_str()?.parse::<OperationId>().ok())
    {
        let from = operation::Entity::find_by_id(from.0)
            .filter(operation::Column::Store.eq(store))
            .filter(operation::Column::Tenant.eq(tenant))
            .filter(operation::Column::State.eq("ready"))
            .filter(operation::Column::DestroyRequested.eq(false));
        if let Some(from) = from.one(db).await? {
            return Ok(Some(object_of(from)));
        }
    }
    Ok(backup.map(object_of))
}

/// The latest object of a volume in a store, backed up there or copied to it. `fresh`: what became Ready just now.
async fn kin(
    db: &impl ConnectionTrait,
    fresh: &[operation::Model],
    subject: &str,
    store: &str,
    tenant: &str,
) -> Result<Option<Object>, Failed> {
    let (backup, copy) = (backups_of(subject, store, tenant).one(db).await?, copies_of(subject, store, tenant).one(db).await?);
    let fresh = [BackupSnapshot::KIND, CopyObject::KIND].into_iter().flat_map(|kind| fresh_of(fresh, kind, subject, tenant));
    let fresh = fresh.filter(|it| it.store.as_deref() == Some(store));
    Ok(fresh.chain(backup).chain(copy).max_by_key(|it| it.id).map(object_of))
}

fn fresh_of(fresh: &[operation::Model], kind: &str, subject: &str, tenant: &str) -> impl Iterator<Item = operation::Model> {
    let of_volume = fresh.iter().filter(move |it| it.subject.as_deref() == Some(subject) && it.tenant == tenant);
    of_volume.filter(move |it| it.kind == kind).cloned()
}

/// Backups of a volume in a store, the latest first.
pub fn backups_of(subject: &str, store: &str, tenant: &str) -> Select<operation::Entity> {
    in_store(BackupSnapshot::KIND, subject, store, tenant)
}

/// Copies of a volume's objects in a store, the latest first.
pub fn copies_of(subject: &str, store: &str, tenant: &str) -> Select<operation::Entity> {
    in_store(CopyObject::KIND, subject, store, tenant)
}

fn in_store(kind: &str, subject: &str, store: &str, tenant: &str) -> Select<operation::Entity> {
    let ready = ready_of(subject, tenant).filter(operation::Column::Kind.eq(kind));
    ready.filter(operation::Column::Store.eq(store))
}

/// Volumes of that name that were made, the latest first.
pub fn made_as(subject: &str, tenant: &str) -> Select<operation::Entity> {
    ready_of(subject, tenant).filter(operation::Column::Kind.eq(CreateVolume::KIND))
}

fn ready_of(subject: &str, tenant: &str) -> Select<operation::Entity> {
    operation::Entity::find()
        .filter(operation::Column::Subject.eq(subject))
        .filter(Expr::cust(operation::READY))
        .filter(operation::Column::Tenant.eq(tenant))
        .filter(operation::Column::DestroyRequested.eq(false))
        .order_by_desc(operation::Column::Id)
}

fn object_of(row: operation::Model) -> Object {
    Object {
        id: OperationId(row.id),
        kind: row.kind,
        tenant: row.tenant,
        zone: row.zone,
        name: row.name,
        subject: row.subject,
        store: row.store,
        usable: (row.state == "ready" && !row.destroy_requested)
            || (row.state == "destroying" && mutant::is(Mutant::HoldWhatGoes)),
        state: row.state,
        output: row.output.unwrap_or(Value::Null),
        sparse: vec![],
    }
}
