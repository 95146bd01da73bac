//! Which worker gets work between two stores, in a site of two regions.

use super::*;
use crate::world::{Seen, Worker, Zone};
use longshore_schema::wire::Announce;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Zones `z1` and `z2` in region `r1` and `z3` in `r2`; stores `a` of `r1`, `b` of `z2` and `c` of `r2`.
pub(crate) fn world(workers: Vec<Worker>) -> World {
    let zones = [("z1", "r1"), ("z2", "r1"), ("z3", "r2")].map(|(name, region)| {
        let zone = Zone { region: region.into(), path: PathPolicy::Auto };
        (name.to_owned(), zone)
    });
    let places = [store("a", "region", "r1", 64 << 10), store("b", "zone", "z2", 64 << 10), store("c", "region", "r2", 1 << 20)];
    let (zones, workers) = (Arc::new(BTreeMap::from(zones)), Arc::new(workers));
    World { zones, places: BTreeMap::from(places), workers, ..World::default() }
}

fn store(name: &str, near: &str, whose: &str, extent_size: u32) -> (String, Seen) {
    let url = format!("file:///{name}");
    let place = json!({
        "role": "store", "name": name, "url": url, near: whose, "capacity": 1, "incarnation": uuid::Uuid::nil(),
    });
    (name.to_owned(), Seen { place: serde_json::from_value(place).unwrap(), extent_size })
}

/// A worker that reaches these stores.
pub(crate) fn worker(id: &str, kind: WorkerKind, zone: &str, stores: &[&str]) -> Worker {
    let announced = Announce {
        worker: id.into(),
        incarnation: uuid::Uuid::nil(),
        kind,
        host: id.into(),
        zone: zone.into(),
        version: "0".into(),
        tools: BTreeMap::new(),
        pools: vec![],
        stores: stores.iter().map(|it| (*it).to_owned()).collect(),
        concurrency: 1,
        problems: BTreeMap::new(),
        leaving: false,
    };
    Worker { announced, live: true }
}

#[test]
fn a_copy_is_made_by_the_nearest_worker_that_reaches_both_stores() {
    let kvm = |zone: &str, stores: &[&str]| worker(&format!("{zone}-kvm"), WorkerKind::Kvm, zone, stores);
    let transfer = |zone: &str, stores: &[&str]| worker(&format!("{zone}-transfer"), WorkerKind::Transfer, zone, stores);
    let of_zone = |zone: &str, kind: WorkerKind| Some(names::zone_queue(zone, kind.as_str()));
    let both: &[&str] = &["a", "b"];
    for (workers, zone, stores, wanted) in [
        (vec![kvm("z1", both), kvm("z2", both)], None, ("a", "b"), of_zone("z2", WorkerKind::Kvm)),
        (vec![kvm("z1", both), kvm("z2", both)], Some("z1"), ("a", "b"), of_zone("z1", WorkerKind::Kvm)),
        (vec![kvm("z1", both), kvm("z2", &["b"])], None, ("a", "b"), of_zone("z1", WorkerKind::Kvm)),
        (vec![kvm("z2", both), transfer("z2", both)], None, ("b", "a"), of_zone("z2", WorkerKind::Transfer)),
        (vec![kvm("z1", &["a"]), transfer("z1", &["a", "c"])], None, ("a", "c"), of_zone("z1", WorkerKind::Transfer)),
        (vec![transfer("z1", &["a", "c"]), transfer("z3", &["a", "c"])], None, ("a", "c"), of_zone("z3", WorkerKind::Transfer)),
        (vec![transfer("z1", &["a", "c"]), transfer("z3", &["a", "c"])], None, ("c", "a"), of_zone("z1", WorkerKind::Transfer)),
        (vec![transfer("z3", both)], None, ("a", "b"), of_zone("z3", WorkerKind::Transfer)),
        (vec![kvm("z1", both), worker("other", WorkerKind::Kvm, "z1", &["a"])], None, ("a", "b"), Some("host.z1-kvm".into())),
        (vec![kvm("z1", &["a"]), kvm("z2", &["b"])], None, ("a", "b"), None),
        (vec![kvm("z1", both)], Some("z2"), ("a", "b"), None),
        (vec![], None, ("a", "b"), None),
    ] {
        let told: Vec<_> = workers.iter().map(|it| (it.announced.worker.clone(), it.announced.stores.clone())).collect();
        let route = between_stores(&world(workers), zone, stores.0, stores.1);
        assert_eq!(route.as_ref().ok().map(|it| it.queue.clone()), wanted, "{stores:?} by {told:?} in {zone:?}");
        if let Err(fault) = route {
            assert_eq!((fault.code.as_str(), fault.retry_after_s), (code::WORKER_UNAVAILABLE, Some(30)));
            assert!(fault.message.ends_with("reaches both store a and store b"), "{fault}");
        }
    }
}

#[test]
fn who_can_reach_no_second_store_says_why() {
    let mut far = worker("far", WorkerKind::Transfer, "z3", &["c"]);
    far.announced.problems.insert("a".into(), "store.denied: no".into());
    let fault = between_stores(&world(vec![far]), Some("z3"), "a", "c").unwrap_err();
    assert_eq!(fault.message, "no worker in zone z3 reaches both store a and store c (far on a: store.denied: no)");
}
