//! Who waits for space, in what order; and for how long an operation may take.

use crate::{
    meddler::Meddler,
    rig::{Options, Parts, Rig, backup_body, content, make_volume, noise},
};
use longshore_courier::{Properties, embedded::Mischief};
use longshore_schema::{fault::code, ids::OperationId, step::Way};
use longshore_tests::services::unique;
use serde_json::json;

/// A backup that was asked for with a priority, and waits for space.
async fn waits(rig: &Rig, volume: &str, priority: u8) -> OperationId {
    let properties = Properties { message_id: Some(unique("message")), priority: Some(priority), ..Properties::default() };
    let reply = rig.submit_with("backup-snapshot", backup_body(volume, None), properties).await;
    let id = reply.operation.unwrap_or_else(|| panic!("{volume}: {:?}", reply.fault));
    rig.until("it waits", async || rig.show(id).await.waiting_for.map(drop)).await;
    id
}

pub(crate) async fn of_those_who_wait_for_space_the_one_of_the_highest_priority_goes_first(parts: Parts) -> Mischief {
    // One fits at a time.
    let rig = Rig::with(Options { store_capacity: "8 MiB", ..Options::new(parts) }).await;
    for (seed, volume) in ["first", "low", "middle", "high"].into_iter().enumerate() {
        make_volume(&rig.volume(volume), "raw", &noise(seed as u64, 5 << 20));
    }
    let mut there = rig.backup("first", None).await.id;
    // Neither the order of their coming nor that of their names.
    let low = waits(&rig, "low", 0).await;
    let high = waits(&rig, "high", 9).await;
    let middle = waits(&rig, "middle", 4).await;
    for (id, before) in
        [(low, "; 2 operations wait before this one"), (middle, "; 1 operation waits before this one"), (high, "")]
    {
        let told = rig.show(id).await.waiting_for.unwrap();
        assert!(told.ends_with(&format!(" needed{before}")), "{told}");
    }
    for (next, others) in [(high, vec![middle, low]), (middle, vec![low]), (low, vec![])] {
        rig.destroyed(there).await;
        rig.in_state(next, "ready").await;
        for other in others {
            let view = rig.show(other).await;
            assert!(view.state == "allocated" && view.waiting_for.is_some(), "{other} overtook {next}: {view:?}");
        }
        there = next;
    }
    rig.restore(there, "new", "raw").await;
    assert!(content(&rig.volume("new"), "raw") == noise(1, 5 << 20));
    rig.assert_clean().await;
    rig.end().await
}

pub(crate) async fn what_is_at_work_when_the_deadline_of_its_command_passes_fails_and_is_undone(parts: Parts) -> Mischief {
    let meddler = Meddler::new();
    meddler.hold("object.copy", Way::Do);
    let rig = Rig::with(Options { between: Some(meddler.clone()), ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    // The smallest in which it gets to work on this machine; it fails after any.
    let mut began = false;
    for deadline_s in [1, 2, 4, 8, 16, 32, 64] {
        let mut body = backup_body("disk", None);
        body["deadline_s"] = json!(deadline_s);
        let id = rig.accepted("backup-snapshot", body).await;
        let view = rig.in_state(id, "failed").await;
        assert_eq!(view.fault.unwrap().code, code::DEADLINE_PASSED);
        let took_s = view.updated_at.seconds_since(view.created_at);
        let (least, most) = (f64::from(deadline_s), f64::from(deadline_s) + 60.0);
        assert!((least..most).contains(&took_s), "it failed after {took_s} s, and had {deadline_s}");
        began = meddler.seen.lock().unwrap().iter().any(|it| it == "object.copy");
        if began {
            break;
        }
    }
    assert!(began, "it never got to work");
    assert_eq!(rig.keys().await.into_keys().filter(|it| !it.ends_with("/aborted")).collect::<Vec<_>>(), ["store.json"]);
    meddler.let_go();
    rig.backup("disk", None).await;
    rig.assert_clean().await;
    rig.end().await
}
