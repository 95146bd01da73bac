//! What is planned for a copy, and what is refused.

use super::*;
use crate::{
    operation::find,
    path::tests::{worker, world},
    plan::Planned,
};
use longshore_schema::{time::Timestamp, wire::WorkerKind};

/// Bytes of the object, and those of its extents that are zeros.
const SIZE: u64 = 10 << 20;
const ZEROS: u64 = 4 << 20;

fn asked() -> Asked {
    Asked { operation: OperationId::new(), tenant: "t1".into(), at: Timestamp(5) }
}

fn output(extent_size: u32) -> Value {
    json!({
        "virtual_size": SIZE, "extent_size": extent_size, "zeros": ZEROS, "digest": "d".repeat(64), "source": "fast/disk",
        "root": {"attempt": 1, "digest": "e".repeat(64), "bytes": 700},
    })
}

fn object(store: Option<&str>) -> Object {
    Object {
        id: OperationId::new(),
        kind: "backup-snapshot".into(),
        tenant: "t1".into(),
        zone: "z1".into(),
        name: Some("nightly".into()),
        subject: Some("fast/disk".into()),
        store: store.map(str::to_owned),
        usable: true,
        state: "ready".into(),
        output: output(64 << 10),
        sparse: vec![],
    }
}

/// A site whose one worker reaches all stores, with that object.
fn site(source: &Object) -> World {
    let mut world = world(vec![worker("w", WorkerKind::Transfer, "z1", &["a", "b", "c"])]);
    world.objects.insert(source.id, source.clone());
    world
}

fn planned(body: Value, world: &World) -> Result<(Plan, About), Fault> {
    find("copy-object").unwrap().plan(&body, world, &asked())
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|it| it.name.as_str()).collect()
}

fn queue(step: &Planned) -> &str {
    match &step.work {
        Work::Worker(call) => &call.queue,
        Work::Engine(_) => "",
    }
}

#[test]
fn a_copy_is_reserved_written_committed_and_published_and_holds_its_source() {
    let source = object(Some("a"));
    let (plan, about) = planned(json!({"from": source.id, "store": "b"}), &site(&source)).unwrap();
    assert_eq!(names(&plan), ["reserve", "object.transfer", "object.commit", "publish"]);
    assert_eq!((&plan.uses, plan.claims.len(), plan.commit), (&vec![source.id], 0, Some(2)));
    let bytes = bound(SIZE, SIZE - ZEROS, 64 << 10) + READY_BYTES;
    let amount = Amount::Known { bytes, physical: bytes };
    let need = Need { place: "b".into(), amount, wait: true };
    assert_eq!(plan.steps[0].work, Work::Engine(EngineStep::Reserve(vec![need])));
    let Work::Worker(transfer) = &plan.steps[1].work else { panic!("{plan:?}") };
    assert_eq!(transfer.writes_under, Some(0));
    let about_copy = &transfer.args["about"];
    assert_eq!((&about_copy["name"], &about_copy["source"]), (&json!("nightly"), &json!("fast/disk")));
    let origin = json!({"object": source.id, "store": "a", "digest": "d".repeat(64), "extent_size": 64 << 10});
    assert_eq!(about_copy["copy_of"], origin);
    assert!(plan.path.unwrap().because.contains("frames are passed on"));
    // `b` serves zone z2 alone.
    let wanted = About {
        zone: "z2".into(),
        name: Some("nightly".into()),
        subject: Some("fast/disk".into()),
        store: Some("b".into()),
        deadline_s: None,
    };
    assert_eq!(about, wanted);
}

#[test]
fn where_extents_have_another_size_the_bound_is_that_of_the_new_one_and_the_plan_says_so() {
    let source = object(Some("a"));
    let body = json!({"from": source.id, "store": "c", "name": "far", "when_full": "refuse", "zone": "z1", "deadline_s": 9});
    let (plan, about) = planned(body, &site(&source)).unwrap();
    let bytes = bound(SIZE, SIZE - ZEROS, 1 << 20) + READY_BYTES;
    let need = Need { place: "c".into(), amount: Amount::Known { bytes, physical: bytes }, wait: false };
    assert_eq!(plan.steps[0].work, Work::Engine(EngineStep::Reserve(vec![need])));
    assert!(plan.path.unwrap().because.contains("bytes are cut anew"));
    assert_eq!((about.zone.as_str(), about.name.as_deref(), about.deadline_s), ("z1", Some("far"), Some(9)));
}

#[test]
fn what_is_done_at_the_copy_alone_is_for_workers_near_it() {
    let source = object(Some("a"));
    let mut world = site(&source);
    let near = worker("near", WorkerKind::Kvm, "z3", &["c"]);
    world.workers = std::sync::Arc::new([world.workers.to_vec(), vec![near]].concat());
    let (plan, _) = planned(json!({"from": source.id, "store": "c"}), &world).unwrap();
    assert_eq!((queue(&plan.steps[1]), queue(&plan.steps[2])), ("zone.z1.transfer", "zone.z3.kvm"));
    let undos = plan.steps.iter().filter_map(|it| it.undo.as_ref());
    assert!(undos.map(|it| it.call.queue.as_str()).eq(["zone.z3.kvm"; 2]));
}

#[test]
fn the_base_is_in_the_new_store_with_its_extents_and_both_objects_are_held_in_one_order() {
    let source = object(Some("a"));
    let mut world = site(&source);
    for (kin, body, wanted) in [
        (object(Some("b")), json!("auto"), true),
        (object(Some("b")), json!("full"), false),
        (Object { output: output(1 << 20), ..object(Some("b")) }, json!("auto"), false),
        (object(Some("a")), json!("auto"), false),
    ] {
        world.lineage = Some(kin.clone());
        let (plan, _) = planned(json!({"from": source.id, "store": "b", "base": body}), &world).unwrap();
        let mut uses = vec![source.id];
        uses.extend(wanted.then_some(kin.id));
        uses.sort_unstable();
        assert_eq!(plan.uses, uses, "{body}");
        let Work::Worker(transfer) = &plan.steps[1].work else { panic!("{plan:?}") };
        let base = wanted.then(|| json!(kin.id));
        assert_eq!(transfer.args["base"].get("object"), base.as_ref(), "{body}");
    }
}

#[test]
fn what_can_not_be_copied_is_refused_with_a_fault_of_its_own() {
    let source = object(Some("a"));
    let (gone, copying) = (Object { usable: false, state: "destroying".into(), ..object(Some("a")) }, object(Some("a")));
    let copying = Object { usable: false, state: "copying".into(), ..copying };
    let (volume, theirs) = (object(None), Object { tenant: "t2".into(), ..object(Some("a")) });
    for (object, store, zone, wanted) in [
        (&source, "a", "z1", code::STORE_SAME),
        (&source, "x", "z1", code::STORE_UNKNOWN),
        (&source, "b", "z9", code::ZONE_UNKNOWN),
        (&source, "b", "z3", code::WORKER_UNAVAILABLE),
        (&gone, "b", "z1", code::OBJECT_GONE),
        (&copying, "b", "z1", code::OBJECT_NOT_READY),
        (&volume, "b", "z1", code::OBJECT_WRONG_KIND),
        (&theirs, "b", "z1", code::OPERATION_UNKNOWN),
    ] {
        let fault = planned(json!({"from": object.id, "store": store, "zone": zone}), &site(object)).unwrap_err();
        assert_eq!(fault.code, wanted, "{store} {zone}: {fault}");
    }
    let fault = planned(json!({"from": OperationId::new(), "store": "b"}), &site(&source)).unwrap_err();
    assert_eq!(fault.code, code::OPERATION_UNKNOWN);
}

#[test]
fn the_output_is_an_object_that_can_be_copied_again() {
    let source = object(Some("a"));
    let body = json!({"from": source.id, "store": "b"});
    let (plan, _) = planned(body.clone(), &site(&source)).unwrap();
    let mut done = machine::Operation::new(OperationId::new(), plan);
    let root = json!({"attempt": 2, "digest": "f".repeat(64), "bytes": 600});
    let mut copied = output(64 << 10);
    copied["packs"] = json!([]);
    copied["without_base"] = json!(true);
    done.steps[1].output = Some(copied);
    done.steps[2].output = Some(json!({"root": root, "read_back": 9}));
    let made = find("copy-object").unwrap().output(&body, &done);
    assert_eq!((&made["root"], &made["read_back"], &made["packs"]), (&root, &json!(9), &Value::Null));
    assert_eq!((&made["from"], &made["copy_of"]["store"], &made["base"]), (&json!(source.id), &json!("a"), &Value::Null));
    assert_eq!((&made["source"], &made["store"]), (&json!("fast/disk"), &json!("b")));
    let copy = Object { output: made, ..object(Some("b")) };
    let (plan, _) = planned(json!({"from": copy.id, "store": "c"}), &site(&copy)).unwrap();
    let Work::Worker(transfer) = &plan.steps[1].work else { panic!("{plan:?}") };
    assert_eq!(transfer.args["about"]["source"], json!("fast/disk"));
}
