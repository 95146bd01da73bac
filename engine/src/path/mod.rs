//! The capability table: which path an operation takes between a pool and a store, and which queue its steps
//! go to. One row decides, and the plan says which.

#[cfg(test)]
pub(crate) mod tests;

use crate::{plan::Choice, world::World};
use longshore_schema::{
    fault::{Fault, code},
    site::{Hypervisor, PathPolicy},
    wire::{WorkerKind, names},
};

/// One row: work between a pool of this kind and any store.
#[derive(Debug)]
struct Row {
    operation: &'static str,
    pool: Hypervisor,
    worker: WorkerKind,
    direct: &'static str,
}

/// The table. Staged paths come as rows of their own, with the issue that builds staging.
const ROWS: &[Row] = &[
    Row {
        operation: "backup-snapshot",
        pool: Hypervisor::Kvm,
        worker: WorkerKind::Kvm,
        direct: "kvm volume -> store: read-only NBD export, packs put by the same worker",
    },
    Row {
        operation: "create-volume",
        pool: Hypervisor::Kvm,
        worker: WorkerKind::Kvm,
        direct: "store -> kvm volume: one pass over the manifest into an NBD export",
    },
];

/// Where the steps of an operation go, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Routing key of its steps.
    pub queue: String,
    /// For the plan.
    pub choice: Choice,
}

/// Chooses the path between a pool and a store of a zone.
pub fn between(
    world: &World,
    operation: &str,
    zone: &str,
    (pool, hypervisor): (&str, Hypervisor),
    store: &str,
    asked: PathPolicy,
) -> Result<Route, Fault> {
    let row = ROWS.iter().find(|row| row.operation == operation && row.pool == hypervisor).ok_or_else(|| {
        Fault::permanent(code::PATH_UNAVAILABLE, format!("{operation} isn't possible for {} pools", hypervisor.as_str()))
    })?;
    let site = world.zones.get(zone).map_or(PathPolicy::Auto, |it| it.path);
    let (policy, whose) = match (asked, site) {
        (PathPolicy::Auto, site) => (site, "the zone's policy"),
        (asked, _) => (asked, "the command"),
    };
    if policy == PathPolicy::Staged {
        let why = format!("{whose} asks for the staged path, and there is none for {operation} yet");
        return Err(Fault::permanent(code::PATH_UNAVAILABLE, why));
    }
    let reaches =
        |it: &longshore_schema::wire::Announce| it.pools.iter().any(|p| p == pool) && it.stores.iter().any(|s| s == store);
    let queue = queue(world, zone, row.worker, reaches).ok_or_else(|| {
        let what = format!("no {} worker in zone {zone} reaches both pool {pool} and store {store}", row.worker.as_str());
        Fault::transient(code::WORKER_UNAVAILABLE, with_problems(what, world, &[zone], &[pool, store])).retry_after(30)
    })?;
    let because = match policy {
        PathPolicy::Auto => row.direct.to_owned(),
        PathPolicy::Direct | PathPolicy::Staged => format!("{}; {whose} asks for it", row.direct),
    };
    Ok(Route { queue, choice: Choice { chosen: "direct".into(), because } })
}

/// The queue for work at a store alone: any worker that reaches it.
pub fn at_store(world: &World, zones: &[&str], store: &str) -> Result<Route, Fault> {
    let reaches = |it: &longshore_schema::wire::Announce| it.stores.iter().any(|s| s == store);
    for kind in [WorkerKind::Transfer, WorkerKind::Kvm] {
        for zone in zones {
            if let Some(queue) = queue(world, zone, kind, reaches) {
                let because = format!("any worker that reaches store {store}");
                return Ok(Route { queue, choice: Choice { chosen: "direct".into(), because } });
            }
        }
    }
    let what = format!("no worker reaches store {store}");
    Err(Fault::transient(code::WORKER_UNAVAILABLE, with_problems(what, world, zones, &[store])).retry_after(30))
}

/// The queue for work between two stores: a worker of `zone` that reaches both; without, the nearest one that does. That is
/// one near both, else one near the store that is written to, else one near the other, else any.
pub fn between_stores(world: &World, zone: Option<&str>, from: &str, to: &str) -> Result<Route, Fault> {
    let near = |store: &str| world.places.get(store).map(|it| world.zones_of(&it.place)).unwrap_or_default();
    let (near_from, near_to): (Vec<&str>, Vec<&str>) = (near(from), near(to));
    let mut zones: Vec<&str> = match zone {
        Some(zone) => vec![zone],
        None => world.zones.keys().map(String::as_str).collect(),
    };
    zones.sort_by_key(|it| (!near_to.contains(it), !near_from.contains(it)));
    let reaches = |it: &longshore_schema::wire::Announce| [from, to].iter().all(|store| it.stores.iter().any(|s| s == store));
    for zone in &zones {
        for kind in [WorkerKind::Transfer, WorkerKind::Kvm] {
            if let Some(queue) = queue(world, zone, kind, reaches) {
                let because = "store -> store: read, checked and put by one worker that reaches both".to_owned();
                return Ok(Route { queue, choice: Choice { chosen: "direct".into(), because } });
            }
        }
    }
    let place = zone.map_or(String::new(), |zone| format!(" in zone {zone}"));
    let what = format!("no worker{place} reaches both store {from} and store {to}");
    Err(Fault::transient(code::WORKER_UNAVAILABLE, with_problems(what, world, &zones, &[from, to])).retry_after(30))
}

/// The zone's queue if all live workers of the kind can do it, so that any may take over; else one host's.
fn queue(
    world: &World,
    zone: &str,
    kind: WorkerKind,
    reaches: impl Fn(&longshore_schema::wire::Announce) -> bool,
) -> Option<String> {
    let workers = world.workers_of(zone, kind);
    let able = workers.iter().find(|it| reaches(&it.announced))?;
    let all = workers.iter().filter(|it| it.live).all(|it| reaches(&it.announced));
    Some(if all { names::zone_queue(zone, kind.as_str()) } else { names::host_queue(&able.announced.host) })
}

fn with_problems(what: String, world: &World, zones: &[&str], places: &[&str]) -> String {
    let workers = world.workers.iter().filter(|it| zones.contains(&it.announced.zone.as_str()));
    let said = workers.flat_map(|it| it.announced.problems.iter().map(move |(place, why)| (&it.announced.worker, place, why)));
    let said: Vec<_> = said
        .filter(|(_, place, _)| places.contains(&place.as_str()))
        .map(|(worker, place, why)| format!("{worker} on {place}: {why}"))
        .collect();
    if said.is_empty() { what } else { format!("{what} ({})", said.join("; ")) }
}
