//! An S3 store that is slow, away, closed or broken in the middle of an operation: what passes only delays, what
//! doesn't ends with a fault of its own, and no way of failing leaves anything or makes a wrong volume.

use crate::rig::{Options, Parts, Rig, backup_body, content, make_volume, noise, restore_body};
use longshore_engine::audit::OperationView;
use longshore_schema::{fault::Class, tables::pack};
use longshore_tests::{
    proxy::{Mischief, Proxy, Rule},
    services::Services,
};
use sea_orm::EntityTrait;
use serde_json::json;

const SERVER_ERROR: Mischief = Mischief::Answer(500, "InternalError");
const SLOW_DOWN: Mischief = Mischief::Answer(503, "SlowDown");
const DENIED: Mischief = Mischief::Answer(403, "AccessDenied");

async fn behind_a_proxy() -> (Proxy, Rig) {
    let proxy = Proxy::start(&Services::from_env().s3_endpoint).await;
    // What these tests count are requests of one attempt: no message is lost, and no lease on a busy machine.
    let mut options = Options { endpoint: Some(proxy.endpoint.clone()), calm: true, ..Options::new(Parts::EmbeddedS3) };
    options.config.lease_s = 60;
    let rig = Rig::with(options).await;
    (proxy, rig)
}

/// No pack, root or `ready`, and no row of a pack. An `aborted` may stay: it says that there is nothing.
async fn assert_nothing_is_stored(rig: &Rig) {
    let left: Vec<_> = rig.keys().await.into_keys().filter(|it| !it.ends_with("/aborted")).collect();
    assert_eq!(left, ["store.json"]);
    assert_eq!(pack::Entity::find().all(rig.database.read()).await.unwrap(), []);
    rig.assert_clean().await;
}

/// Waits until the step under way has failed with this code.
async fn has_met(rig: &Rig, id: longshore_schema::ids::OperationId, code: &str) -> OperationView {
    rig.until(&format!("{id} meets {code}"), async || {
        let view = rig.show(id).await;
        let met = view.progress.as_ref().and_then(|it| it.last_fault.as_ref()).is_some_and(|it| it.code == code);
        met.then_some(view)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_only_delays() {
    let (proxy, rig) = behind_a_proxy().await;
    // More often than the S3 client itself tries, so that a step fails and is sent again.
    for (n, (part, what)) in [
        ("/packs/", SERVER_ERROR),
        ("/packs/", SLOW_DOWN),
        ("/packs/", Mischief::CutRequest),
        ("/packs/", Mischief::LoseAnswer),
        (".manifest", SLOW_DOWN),
        (".manifest", Mischief::LoseAnswer),
        ("/ready", SERVER_ERROR),
        ("/ready", Mischief::LoseAnswer),
    ]
    .into_iter()
    .enumerate()
    {
        let (volume, bytes) = (format!("disk{n}"), noise(n as u64, 2 << 20));
        make_volume(&rig.volume(&volume), "raw", &bytes);
        let done = proxy.done();
        proxy.play(Rule { times: 5, ..Rule::always("PUT", part, what) });
        let backup = rig.backup(&volume, None).await;
        assert!(proxy.done() > done, "{what:?} of {part} was never met");
        proxy.behave();
        proxy.play(Rule { times: 5, ..Rule::always("GET", "/packs/", SLOW_DOWN) });
        rig.restore(backup.id, &format!("new{n}"), "raw").await;
        proxy.behave();
        assert!(content(&rig.volume(&format!("new{n}")), "raw") == bytes, "{what:?} of {part}");
    }
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_no_packs_is_tried_until_the_deadline() {
    let (proxy, rig) = behind_a_proxy().await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 2 << 20));
    for what in [SLOW_DOWN, SERVER_ERROR] {
        proxy.play(Rule::always("PUT", "/packs/", what));
        let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
        let view = has_met(&rig, id, "store.unavailable").await;
        let fault = view.progress.unwrap().last_fault.unwrap();
        assert_eq!((view.state.as_str(), fault.class), ("copying", Class::Transient), "{fault}");
        rig.let_expire(id).await;
        assert_eq!(rig.in_state(id, "failed").await.fault.unwrap().code, "deadline.passed", "{what:?}");
        assert_nothing_is_stored(&rig).await;
        proxy.behave();
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_done_when_a_store_that_was_away_is_back() {
    let (proxy, rig) = behind_a_proxy().await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 40 << 20));
    proxy.play(Rule { skip: 1, spreads: true, ..Rule::always("PUT", "/packs/", SLOW_DOWN) });
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    has_met(&rig, id, "store.unavailable").await;
    assert!(rig.submit("cancel", json!({"operation": id})).await.accepted);
    rig.in_state(id, "destroying").await;
    proxy.behave();
    assert_eq!(rig.in_state(id, "failed").await.fault.unwrap().code, "cancelled");
    assert_nothing_is_stored(&rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_closes_in_the_middle_fails_the_operation_and_is_cleaned_when_it_opens() {
    let (proxy, rig) = behind_a_proxy().await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 40 << 20));
    proxy.play(Rule { skip: 1, spreads: true, ..Rule::always("PUT", "/packs/", DENIED) });
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    let view = rig
        .until("its undo is denied too", async || {
            let view = rig.show(id).await;
            view.needs_attention.then_some(view)
        })
        .await;
    let fault = view.fault.unwrap();
    assert_eq!((view.state.as_str(), fault.code.as_str(), fault.class), ("destroying", "store.denied", Class::Permanent));
    proxy.behave();
    assert_eq!(rig.in_state(id, "failed").await.fault.unwrap().code, "store.denied");
    assert_nothing_is_stored(&rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fills_up_in_the_middle_says_so_and_nothing_is_left() {
    for full in [Mischief::Answer(507, "InsufficientStorage"), Mischief::Answer(403, "QuotaExceeded")] {
        let (proxy, rig) = behind_a_proxy().await;
        make_volume(&rig.volume("disk"), "raw", &noise(1, 40 << 20));
        proxy.play(Rule { skip: 1, ..Rule::always("PUT", "/packs/", full) });
        let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
        has_met(&rig, id, "store.full").await;
        rig.let_expire(id).await;
        let fault = rig.in_state(id, "failed").await.fault.unwrap();
        assert_eq!(fault.code, "deadline.passed", "{full:?}");
        assert!(fault.message.contains("object.copy was tried again after store.full: "), "{fault}");
        assert_nothing_is_stored(&rig).await;
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_not_to_wait_fails_at_once_when_its_store_fills_up_and_its_undo_needs_no_room() {
    let (proxy, rig) = behind_a_proxy().await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 40 << 20));
    // One pack, and from then on not another byte.
    proxy.play(Rule { skip: 1, ..Rule::always("PUT", "/prefix/", Mischief::Answer(507, "InsufficientStorage")) });
    let mut body = backup_body("disk", None);
    body["when_full"] = "refuse".into();
    let id = rig.accepted("backup-snapshot", body).await;
    let fault = rig.in_state(id, "failed").await.fault.unwrap();
    assert_eq!(fault.code, "store.full", "{fault}");
    assert!(proxy.done() > 0);
    let left: Vec<_> = rig.keys().await.into_keys().collect();
    assert_eq!(left, ["store.json"]);
    proxy.behave();
    assert_nothing_is_stored(&rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_no_packs_of_ours_fails_at_once() {
    let (proxy, rig) = behind_a_proxy().await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 2 << 20));
    proxy.play(Rule::always("PUT", "/packs/", DENIED));
    let id = rig.accepted("backup-snapshot", backup_body("disk", None)).await;
    let fault = rig.in_state(id, "failed").await.fault.unwrap();
    assert_eq!((fault.code.as_str(), fault.class), ("store.denied", Class::Permanent));
    // A pack of extents and one of pages, at the same time.
    assert!(proxy.done() <= 2, "what is denied isn't tried again: {}", proxy.done());
    assert_nothing_is_stored(&rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_wrong_secret_says_so_and_commands_are_refused_until_it_has_the_right_one() {
    let rig = Rig::with(Options { wrong_secret: true, ..Options::new(Parts::EmbeddedS3) }).await;
    let bytes = noise(1, 2 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let problem = rig.workers().await.remove(0).problems.remove("main").unwrap();
    assert!(problem.starts_with("store.denied:"), "{problem}");
    let fault = rig.submit("backup-snapshot", backup_body("disk", None)).await.fault.unwrap();
    assert_eq!((fault.code.as_str(), fault.class), ("worker.unavailable", Class::Transient));
    assert!(fault.message.contains("store.denied") && !fault.message.contains("another secret"), "{fault}");

    std::fs::write(rig.dir.path().join("secret"), Services::from_env().s3_secret).unwrap();
    rig.until("the worker reaches the store", async || (rig.workers().await[0].stores == ["main"]).then_some(())).await;
    let backup = rig.backup("disk", None).await;
    rig.restore(backup.id, "new", "raw").await;
    assert!(content(&rig.volume("new"), "raw") == bytes);
    rig.assert_clean().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_cut_short_or_damaged_never_become_a_volume() {
    let (proxy, rig) = behind_a_proxy().await;
    let bytes = noise(1, 8 << 20);
    make_volume(&rig.volume("disk"), "raw", &bytes);
    let backup = rig.backup("disk", None).await;
    for (n, (times, what, end)) in [
        (2, Mischief::CutAnswer, "ready"),
        (2, Mischief::LoseAnswer, "ready"),
        (usize::MAX, Mischief::CutAnswer, "deadline.passed"),
        (1, Mischief::ShortAnswer, "store.misbehaved"),
        (1, Mischief::FlipAnswer, "object.corrupt"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("new{n}");
        let body = restore_body(backup.id, &name, "raw");
        let done = proxy.done();
        proxy.play(Rule { times, ..Rule::always("GET", "/packs/", what) });
        let id = rig.accepted("create-volume", body).await;
        if times == usize::MAX {
            rig.until("it is met", async || (proxy.done() > done).then_some(())).await;
            rig.let_expire(id).await;
        }
        if end == "ready" {
            rig.in_state(id, "ready").await;
            assert!(content(&rig.volume(&name), "raw") == bytes, "{what:?}");
        } else {
            assert_eq!(rig.in_state(id, "failed").await.fault.unwrap().code, end, "{what:?}");
            assert!(!rig.volume(&name).exists(), "{what:?}");
        }
        proxy.behave();
        assert!(proxy.done() > done, "{what:?} was never met");
    }
    rig.restore(backup.id, "last", "raw").await;
    assert!(content(&rig.volume("last"), "raw") == bytes);
    rig.assert_clean().await;
    rig.end().await;
}
