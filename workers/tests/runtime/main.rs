//! A worker and the engine's side of the protocol, over the embedded courier.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod engine;
mod script;

use async_trait::async_trait;
use engine::{Engine, soon};
use longshore_courier::{
    Courier,
    embedded::{Chaos, Embedded, EmbeddedCourier},
};
use longshore_schema::{
    fault::{Class, Fault, code},
    site::{self, Hypervisor as HypervisorKind, Place, Pool, Size},
    step::{Pace, StepMessage},
    wire::{Control, Outcome, Report, WorkerKind, names},
};
use longshore_workers::{config::Config, hypervisor::Hypervisor, reach::Opener, steps::OpenStore, worker::Worker};
use script::Script;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ZONE: &str = "zone.z1.kvm";
const SHORT: Pace = Pace::Short { bound_s: 60 };
const LONG: Pace = Pace::Long { lease_s: 60 };

/// Opens nothing, and says why.
struct Nowhere;

#[async_trait]
impl Opener for Nowhere {
    async fn pool(&self, pool: &Pool) -> Result<Arc<dyn Hypervisor>, Fault> {
        Err(Fault::transient(code::POOL_UNREACHABLE, format!("no {} here", pool.url)))
    }

    async fn store(&self, store: &site::Store, _: uuid::Uuid) -> Result<OpenStore, Fault> {
        Err(Fault::permanent(code::STORE_DENIED, format!("no {} here", store.url)))
    }
}

/// A worker that runs until it is stopped or dropped.
struct Running {
    id: String,
    courier: Arc<EmbeddedCourier>,
    script: &'static Script,
    stop: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn start(engine: &Engine, config: Config) -> Running {
        let (script, stop, courier) = (Script::new(), CancellationToken::new(), Arc::new(engine.hub.courier()));
        let id = config.worker.clone();
        let run = Worker::run(config, courier.clone(), script.handlers(), Arc::new(Nowhere), stop.clone());
        Running { id, courier, script, stop, task: Some(tokio::spawn(run)) }
    }

    /// It dies: nothing of it says or does anything any more.
    async fn kill(mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        self.courier.close().await;
    }

    async fn ended(mut self) {
        soon("the worker to end", self.task.take().unwrap()).await.unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn config(host: &str) -> Config {
    Config::new(WorkerKind::Kvm, "z1", host)
}

/// A worker that was welcomed.
async fn start() -> (Engine, Running) {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, config("h1"));
    engine.announcement(|_| true).await;
    (engine, worker)
}

fn fault(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Fault(fault) => fault,
        Outcome::Output(output) => panic!("{output} instead of a fault"),
    }
}

fn output(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Output(output) => output.as_str().unwrap(),
        Outcome::Fault(fault) => panic!("{fault}"),
    }
}

fn pool(name: &str) -> Place {
    Place::Pool(Pool {
        name: name.into(),
        zone: "z1".into(),
        hypervisor: HypervisorKind::Kvm,
        url: format!("file:///pools/{name}"),
        capacity: Size(1 << 40),
        overcommit: 1.0,
        threshold: 1.0,
        backing_files: false,
    })
}

#[tokio::test]
async fn a_worker_announces_itself_and_says_what_it_cannot_reach_and_why() {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, config("h1"));
    let first = engine.announcement(|_| true).await;
    assert_eq!((first.worker.as_str(), first.host.as_str(), first.zone.as_str()), ("h1-kvm", "h1", "z1"));
    assert!(first.pools.is_empty() && first.problems.is_empty() && !first.leaving);
    engine.places = vec![pool("fast")];
    engine.tell("all", &Control::SiteChanged { site_version: 2 }).await;
    let second = engine.announcement(|it| !it.problems.is_empty()).await;
    assert_eq!(second.problems["fast"], "pool.unreachable: no file:///pools/fast here");
    assert_eq!(second.incarnation, first.incarnation);
    engine.places = vec![];
    engine.tell(&worker.id, &Control::SiteChanged { site_version: 3 }).await;
    engine.announcement(|it| it.problems.is_empty()).await;
}

#[tokio::test]
async fn a_transfer_worker_leaves_pools_alone() {
    let mut engine = Engine::new(Embedded::new()).await;
    let store = json!({"role": "store", "name": "s", "url": "file:///s", "zone": "z1", "capacity": 1,
        "incarnation": uuid::Uuid::nil()});
    engine.places = vec![pool("fast"), serde_json::from_value(store).unwrap()];
    let _worker = Running::start(&engine, Config::new(WorkerKind::Transfer, "z1", "h1"));
    let announced = engine.announcement(|it| !it.problems.is_empty()).await;
    assert_eq!(announced.problems.keys().collect::<Vec<_>>(), ["s"]);
}

#[tokio::test]
async fn a_short_step_is_one_message_each_way() {
    let (mut engine, worker) = start().await;
    for key in [ZONE, "host.h1"] {
        let attempt = engine.send(key, json!("end"), SHORT).await;
        assert_eq!(output(&engine.done(attempt).await), "attempt 1");
    }
    worker.kill().await;
    engine.assert_empty(&names::steps_queue(ZONE)).await;
    engine.assert_empty(&names::steps_queue("host.h1")).await;
}

#[tokio::test]
async fn steps_that_are_sent_before_the_worker_and_its_queue_are_there_are_done_later() {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, config("late"));
    let attempt = engine.send(ZONE, json!("end"), SHORT).await;
    engine.done(attempt).await;
    // By now the worker has tried to consume its host's queue.
    let name = names::steps_queue("host.late");
    let queue = longshore_courier::Queue::Durable { name, exchange: names::STEPS.into(), routing_key: "host.late".into() };
    engine.courier.declare(&[queue]).await.unwrap();
    let attempt = engine.send("host.late", json!("end"), SHORT).await;
    engine.tell(&worker.id, &Control::SiteChanged { site_version: 2 }).await;
    engine.done(attempt).await;
}

#[tokio::test]
async fn a_redelivered_short_step_is_declined_by_who_cannot_know_that_it_was_not_started() {
    let mut engine = Engine::new(Embedded::new()).await;
    let attempt = engine.send(ZONE, json!("end"), SHORT).await;
    engine.disturb(&names::steps_queue(ZONE)).await;
    let worker = Running::start(&engine, config("h1"));
    let declined = Report::Declined { attempt, worker: worker.id.clone() };
    assert_eq!(engine.report().await, declined);
    assert_eq!(worker.script.begins.load(SeqCst), 0);
    worker.kill().await;
    engine.assert_empty(&names::steps_queue(ZONE)).await;
}

#[tokio::test]
async fn a_redelivered_short_step_that_waited_here_and_was_not_started_is_run() {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, Config { short_concurrency: 1, ..config("h1") });
    let begun = engine.send(ZONE, json!("hang"), SHORT).await;
    let waits = engine.send(ZONE, json!("end"), SHORT).await;
    let last = engine.send(ZONE, json!("end"), LONG).await;
    // One queue is taken in order: the short one that waits for the slot was taken before the long one.
    engine.started(last).await;
    assert_eq!(worker.script.begun().await, begun);
    worker.courier.reconnect();
    let (mut declined, mut done) = (vec![], vec![]);
    while declined.is_empty() || done.is_empty() {
        match engine.report().await {
            Report::Declined { attempt, .. } => declined.push(attempt),
            Report::Done { attempt, .. } => done.push(attempt),
            Report::Started { attempt, .. } if attempt == last => (),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((declined, done), (vec![begun], vec![waits]));
}

#[tokio::test]
async fn a_step_past_its_time_is_not_started() {
    let (mut engine, worker) = start().await;
    for pace in [SHORT, LONG] {
        let mut late = engine.message(json!("end"), pace);
        late.start_before = engine.now();
        engine.send_this(ZONE, &late).await;
    }
    let good = engine.send(ZONE, json!("end"), SHORT).await;
    engine.done(good).await;
    worker.stop.cancel();
    engine.announcement(|it| it.leaving).await;
    assert_eq!(worker.script.begins.load(SeqCst), 1);
    worker.ended().await;
    engine.assert_empty(&names::steps_queue(ZONE)).await;
}

#[tokio::test]
async fn a_long_step_without_the_engines_word_is_asked_for_again_and_expires() {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, Config { concurrency: 1, ..config("h1") });
    engine.announcement(|_| true).await;
    let mut message = engine.message(json!("end"), Pace::Long { lease_s: 1 });
    // Time for several questions, on a busy machine too.
    message.start_before = engine.now().plus_s(8);
    engine.send_this(ZONE, &message).await;
    let late = message.attempt;
    let next = engine.send(ZONE, json!("end"), LONG).await;
    let mut asked = 0;
    // The one slot is free again once the first is given up.
    loop {
        match engine.report().await {
            Report::Started { attempt, .. } if attempt == late => asked += 1,
            Report::Started { attempt, .. } if attempt == next => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(asked > 1, "asked only once");
    engine.tell(&worker.id, &Control::Go { attempt: late, pace: LONG, token: None }).await;
    assert_eq!(fault(engine.done(late).await).code, code::STEP_HANDED_BACK, "a word that comes too late is refused");
    engine.tell(&worker.id, &Control::Go { attempt: next, pace: LONG, token: None }).await;
    engine.done(next).await;
    assert_eq!(worker.script.begins.load(SeqCst), 1);
}

#[tokio::test]
async fn a_long_step_stays_with_the_broker_until_the_engine_says_go() {
    for go in [false, true] {
        let (mut engine, worker) = start().await;
        let attempt = engine.send(ZONE, json!("hang"), LONG).await;
        let who = engine.started(attempt).await;
        if go {
            engine.tell(&who, &Control::Go { attempt, pace: LONG, token: None }).await;
            worker.script.begun().await;
        }
        worker.kill().await;
        if !go {
            engine.take(&names::steps_queue(ZONE)).await;
        }
        engine.assert_empty(&names::steps_queue(ZONE)).await;
    }
}

/// Found by the simulation: the word that its predecessor had asked for was taken for the answer to its own, later start, and so the
/// lease for longer than it was.
#[tokio::test]
async fn a_word_to_start_that_answers_another_start_is_not_taken() {
    let (mut engine, worker) = start().await;
    let attempt = engine.send(ZONE, json!("end"), Pace::Long { lease_s: 4 }).await;
    let (who, token) = engine.start_of(attempt).await;
    let token = token.unwrap();
    engine.tell(&who, &Control::Go { attempt, pace: LONG, token: Some(token.wrapping_add(1)) }).await;
    // One may have been on its way by then; who had begun would announce no other.
    for _ in 0..3 {
        assert_eq!(engine.start_of(attempt).await, (who.clone(), Some(token)));
    }
    assert_eq!(worker.script.begins.load(SeqCst), 0);
    engine.tell(&who, &Control::Go { attempt, pace: LONG, token: Some(token) }).await;
    while !matches!(engine.report().await, Report::Done { attempt: it, .. } if it == attempt) {}
    assert_eq!(worker.script.begins.load(SeqCst), 1);
}

#[tokio::test]
async fn of_two_workers_with_one_attempt_only_the_one_with_the_engines_word_runs_it() {
    let mut engine = Engine::new(Embedded::new()).await;
    let (one, two) = (Running::start(&engine, config("h1")), Running::start(&engine, config("h2")));
    let message = engine.message(json!("end"), LONG);
    let attempt = message.attempt;
    engine.send_this("host.h1", &message).await;
    engine.send_this("host.h2", &message).await;
    let mut who = vec![engine.started(attempt).await];
    while who.len() < 2 {
        let next = engine.started(attempt).await;
        if !who.contains(&next) {
            who.push(next);
        }
    }
    engine.tell(&two.id, &Control::Stop { attempt }).await;
    engine.tell(&one.id, &Control::Go { attempt, pace: LONG, token: None }).await;
    let (done, worker) = loop {
        match engine.report().await {
            Report::Done { result, worker, .. } => break (result, worker),
            Report::Started { .. } => (),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((output(&done), worker), ("attempt 1", one.id.clone()));
    // It runs nothing after a word to stop, whatever comes later.
    engine.tell(&two.id, &Control::Go { attempt, pace: LONG, token: None }).await;
    let sign = engine.send("host.h2", json!("end"), SHORT).await;
    while !matches!(engine.report().await, Report::Done { attempt, .. } if attempt == sign) {}
    assert_eq!((one.script.begins.load(SeqCst), two.script.begins.load(SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_doubled_message_is_one_attempt() {
    let (mut engine, worker) = start().await;
    for pace in [SHORT, LONG] {
        let message = engine.message(json!("wait"), pace);
        engine.send_this(ZONE, &message).await;
        engine.send_this(ZONE, &message).await;
        if pace == LONG {
            let who = engine.started(message.attempt).await;
            engine.tell(&who, &Control::Go { attempt: message.attempt, pace, token: None }).await;
        }
        worker.script.begun().await;
        worker.script.go_on.add_permits(1);
        engine.done(message.attempt).await;
        engine.send_this(ZONE, &message).await;
    }
    let last = engine.send(ZONE, json!("end"), SHORT).await;
    engine.done(last).await;
    assert_eq!(worker.script.begins.load(SeqCst), 3);
    worker.kill().await;
    engine.assert_empty(&names::steps_queue(ZONE)).await;
}

#[tokio::test]
async fn answered_renewals_keep_a_step_alive_past_its_first_lease() {
    let (mut engine, worker) = start().await;
    let pace = Pace::Long { lease_s: 9 };
    let attempt = engine.send(ZONE, json!("wait"), pace).await;
    let who = engine.started(attempt).await;
    let start = Instant::now();
    engine.tell(&who, &Control::Go { attempt, pace, token: None }).await;
    while start.elapsed() < Duration::from_secs(10) {
        let (token, running) = engine.renewal().await;
        assert_eq!(running.len(), 1);
        assert_eq!((running[0].attempt, running[0].done_bytes, running[0].total_bytes), (attempt, 1, Some(2)));
        engine.tell(&who, &Control::Renewed { token, stop: vec![] }).await;
    }
    worker.script.go_on.add_permits(1);
    engine.renews = true;
    assert_eq!(output(&engine.done(attempt).await), "attempt 1");
}

#[tokio::test]
async fn without_answers_a_step_ends_before_its_lease_does() {
    let (mut engine, worker) = start().await;
    let pace = Pace::Long { lease_s: 15 };
    let attempt = engine.send(ZONE, json!("hang"), pace).await;
    let who = engine.started(attempt).await;
    let lease_ends = Instant::now() + Duration::from_secs(15);
    engine.tell(&who, &Control::Go { attempt, pace, token: None }).await;
    // Asked for at least once; how often is the machine's affair.
    engine.renewal().await;
    assert!(worker.script.ended().await < lease_ends);
    let result = loop {
        match engine.report().await {
            Report::Done { attempt: ended, result, .. } if ended == attempt => break result,
            Report::Renew { .. } => (),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault(result).code, code::LEASE_LOST);
}

#[tokio::test]
async fn a_renewal_that_names_an_attempt_stops_it_and_renews_the_others() {
    let (mut engine, worker) = start().await;
    let pace = Pace::Long { lease_s: 15 };
    let mut attempts = vec![];
    for _ in 0..2 {
        let attempt = engine.send(ZONE, json!("wait"), pace).await;
        let who = engine.started(attempt).await;
        engine.tell(&who, &Control::Go { attempt, pace, token: None }).await;
        assert_eq!(worker.script.begun().await, attempt);
        attempts.push(attempt);
    }
    let (token, running) = loop {
        let (token, running) = engine.renewal().await;
        if running.len() == 2 {
            break (token, running);
        }
        engine.tell(&worker.id, &Control::Renewed { token, stop: vec![] }).await;
    };
    assert!(attempts.iter().all(|it| running.iter().any(|says| says.attempt == *it)));
    engine.tell(&worker.id, &Control::Renewed { token, stop: vec![attempts[0]] }).await;
    engine.renews = true;
    assert_eq!(fault(engine.done(attempts[0]).await).class, Class::Cancelled);
    worker.script.go_on.add_permits(1);
    assert_eq!(output(&engine.done(attempts[1]).await), "attempt 1");
}

#[tokio::test]
async fn a_stop_ends_a_step_of_either_pace() {
    let (mut engine, worker) = start().await;
    for pace in [SHORT, LONG] {
        let attempt = engine.send(ZONE, json!("hang"), pace).await;
        if pace == LONG {
            let who = engine.started(attempt).await;
            engine.tell(&who, &Control::Go { attempt, pace, token: None }).await;
        }
        assert_eq!(worker.script.begun().await, attempt);
        engine.tell(&worker.id, &Control::Stop { attempt }).await;
        assert_eq!(fault(engine.done(attempt).await).class, Class::Cancelled);
        worker.script.ended().await;
    }
}

#[tokio::test]
async fn a_short_step_ends_at_its_bound() {
    let (mut engine, worker) = start().await;
    let attempt = engine.send(ZONE, json!("hang"), Pace::Short { bound_s: 1 }).await;
    assert_eq!(fault(engine.done(attempt).await).code, code::LEASE_LOST);
    worker.script.ended().await;
}

#[tokio::test]
async fn a_lost_connection_stops_short_steps_and_not_long_ones() {
    let (mut engine, worker) = start().await;
    let long = engine.send(ZONE, json!("wait"), LONG).await;
    let who = engine.started(long).await;
    engine.tell(&who, &Control::Go { attempt: long, pace: LONG, token: None }).await;
    assert_eq!(worker.script.begun().await, long);
    let short = engine.send(ZONE, json!("hang"), SHORT).await;
    assert_eq!(worker.script.begun().await, short);
    worker.courier.reconnect();
    worker.script.ended().await;
    assert_eq!(engine.report().await, Report::Declined { attempt: short, worker: worker.id.clone() });
    worker.script.go_on.add_permits(1);
    assert_eq!(output(&engine.done(long).await), "attempt 1");
    assert_eq!(worker.script.begins.load(SeqCst), 2);
}

#[tokio::test]
async fn packs_of_a_failed_step_are_told_before_its_end() {
    let (mut engine, _worker) = start().await;
    let attempt = engine.send(ZONE, json!({"seal_and_fail": 250}), LONG).await;
    let who = engine.started(attempt).await;
    engine.tell(&who, &Control::Go { attempt, pace: LONG, token: None }).await;
    let mut packs = vec![];
    while packs.len() < 250 {
        let (token, running) = engine.renewal().await;
        packs.extend(running.into_iter().flat_map(|it| it.sealed).map(|it| it.id.n));
        engine.tell(&who, &Control::Renewed { token, stop: vec![] }).await;
    }
    assert_eq!(packs, (0..250).collect::<Vec<_>>());
    assert_eq!(fault(engine.done(attempt).await).code, code::STORE_UNAVAILABLE);
}

#[tokio::test]
async fn a_panic_is_a_fault_and_the_worker_lives_on() {
    let (mut engine, _worker) = start().await;
    let attempt = engine.send(ZONE, json!("panic"), SHORT).await;
    let fault = fault(engine.done(attempt).await);
    assert_eq!((fault.code.as_str(), fault.is_transient()), (code::INTERNAL, true));
    assert!(fault.message.contains("on purpose"), "{fault}");
    let attempt = engine.send(ZONE, json!("end"), SHORT).await;
    engine.done(attempt).await;
}

#[tokio::test]
async fn arguments_that_the_step_does_not_take_and_steps_that_nobody_knows_are_faults() {
    let (mut engine, _worker) = start().await;
    let attempt = engine.send(ZONE, json!("dance"), SHORT).await;
    assert_eq!(fault(engine.done(attempt).await).code, code::INTERNAL);
    let mut message = engine.message(json!("end"), SHORT);
    message.step = "test.unheard-of".into();
    engine.send_this(ZONE, &message).await;
    assert_eq!(fault(engine.done(message.attempt).await).code, code::STEP_UNKNOWN);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_with_the_dead() {
    let (engine, worker) = start().await;
    for body in ["", "{}", "not json", &format!("{{\"step\": \"{}", "x".repeat(5000))] {
        engine.publish(names::STEPS, ZONE, body.into()).await;
        let dead = engine.take(names::DEAD).await;
        assert_eq!(dead.body, body);
    }
    let stop = worker.stop.clone();
    stop.cancel();
    worker.ended().await;
    engine.assert_empty(&names::steps_queue(ZONE)).await;
}

#[tokio::test]
async fn a_worker_does_no_more_at_once_than_it_says() {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, Config { concurrency: 1, short_concurrency: 2, ..config("h1") });
    worker.script.go_on.add_permits(9);
    for pace in [SHORT, LONG] {
        worker.script.most.store(0, SeqCst);
        for _ in 0..9 {
            engine.send(ZONE, json!("end"), pace).await;
        }
        let (mut left, mut begun) = (9, 0);
        while left > 0 {
            match engine.report().await {
                Report::Started { attempt, worker, token } => {
                    begun += 1;
                    assert_eq!(begun, 10 - left, "a second one was to start while one had not ended");
                    engine.tell(&worker, &Control::Go { attempt, pace, token }).await;
                }
                Report::Done { .. } => left -= 1,
                other => panic!("{other:?}"),
            }
        }
        let most = worker.script.most.load(SeqCst);
        assert!(most <= if pace == LONG { 1 } else { 2 }, "{most} at once");
    }
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_hands_back_what_it_cannot_finish() {
    let mut engine = Engine::new(Embedded::new()).await;
    let worker = Running::start(&engine, Config { concurrency: 1, drain_s: 0, ..config("h1") });
    let attempt = engine.send(ZONE, json!("hang"), LONG).await;
    let who = engine.started(attempt).await;
    engine.tell(&who, &Control::Go { attempt, pace: LONG, token: None }).await;
    worker.script.begun().await;
    let waits = engine.send(ZONE, json!("end"), LONG).await;
    let stop = worker.stop.clone();
    stop.cancel();
    engine.announcement(|it| it.leaving).await;
    let fault = fault(engine.done(attempt).await);
    assert_eq!((fault.code.as_str(), fault.is_transient()), (code::STEP_HANDED_BACK, true));
    worker.ended().await;
    let back = engine.take(&names::steps_queue(ZONE)).await;
    assert_eq!(serde_json::from_slice::<StepMessage>(&back.body).unwrap().attempt, waits);
    engine.assert_empty(&names::steps_queue(ZONE)).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_finishes_what_it_can() {
    let (mut engine, worker) = start().await;
    let long = engine.send(ZONE, json!("wait"), LONG).await;
    let who = engine.started(long).await;
    engine.tell(&who, &Control::Go { attempt: long, pace: LONG, token: None }).await;
    worker.script.begun().await;
    let short = engine.send(ZONE, json!("wait"), SHORT).await;
    worker.script.begun().await;
    worker.stop.cancel();
    engine.announcement(|it| it.leaving).await;
    let not_taken = engine.send(ZONE, json!("end"), SHORT).await;
    worker.script.go_on.add_permits(2);
    let mut done = vec![];
    while done.len() < 2 {
        match engine.report().await {
            Report::Done { attempt, result: Outcome::Output(_), .. } => done.push(attempt),
            other => panic!("{other:?}"),
        }
    }
    assert!(done.contains(&long) && done.contains(&short));
    worker.ended().await;
    // The short one's message was acknowledged although the worker took no more messages by then.
    let left = engine.take(&names::steps_queue(ZONE)).await;
    assert_eq!(serde_json::from_slice::<StepMessage>(&left.body).unwrap().attempt, not_taken);
    engine.assert_empty(&names::steps_queue(ZONE)).await;
}

#[tokio::test]
async fn with_messages_doubled_lost_and_out_of_order_each_attempt_runs_once_and_is_reported() {
    for seed in 0..2 {
        let hub = Embedded::with_chaos(Chaos { seed, double: 0.3, reorder: 0.3, lose: 0.3, certain: None });
        let mut engine = Engine::new(hub).await;
        let worker = Running::start(&engine, config("h1"));
        let mut open = HashMap::new();
        for n in 0..30 {
            let pace = if n % 2 == 0 { SHORT } else { Pace::Long { lease_s: 4 } };
            open.insert(engine.send(ZONE, json!("end"), pace).await, pace);
        }
        while !open.is_empty() {
            match engine.report().await {
                Report::Started { attempt, worker, token } => {
                    let control = match open.get(&attempt) {
                        Some(pace) => Control::Go { attempt, pace: *pace, token },
                        None => Control::Stop { attempt },
                    };
                    engine.tell(&worker, &control).await;
                }
                Report::Done { attempt, result, .. } => {
                    assert_eq!(output(&result), "attempt 1");
                    open.remove(&attempt);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(worker.script.begins.load(SeqCst), 30, "seed {seed}");
    }
}
