//! Reports that arrive together: a batch is one transaction, whose rows are written at its end.

#![cfg(feature = "suite")]

mod copying;
mod holding;
mod queueing;
mod remains;
mod remembered;
mod renewing;
mod waiting;

use crate::{
    command::Command,
    config::Config,
    database::Database,
    journal::{self, Absorbed, Item, Written, memory::Memory},
    site,
};
use futures::FutureExt;
use longshore_schema::{
    ids::OperationId,
    site::Site,
    step::{Attempt, StepMessage},
    tables::step,
    wire::{Control, Reply, Report, Running, names},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Mutex;

struct Journal {
    database: Database,
    memory: Arc<Mutex<Memory>>,
    config: Config,
    _dir: Arc<tempfile::TempDir>,
}

impl Journal {
    /// Another engine on the same database.
    fn beside(&self) -> Journal {
        Journal { database: self.database.clone(), memory: Arc::default(), config: self.config, _dir: self._dir.clone() }
    }

    async fn with(config: Config) -> Journal {
        Journal::at(config, "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n").await
    }

    /// With that site.
    async fn at(config: Config, wanted: &str) -> Journal {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/longshore.db", dir.path().display())).await.unwrap();
        let known = site::read(database.read()).await.unwrap();
        let wanted = Site::parse(wanted).unwrap();
        site::apply(&database, &known, &wanted).await.unwrap().unwrap();
        Journal { database, memory: Arc::default(), config, _dir: Arc::new(dir) }
    }

    async fn new() -> Journal {
        Journal::with(Config::default()).await
    }

    async fn write(&self, items: Vec<Item>) -> Written {
        journal::write(&self.database, &self.memory, self.config, items, vec![]).await.unwrap()
    }

    async fn step(&self, attempt: Attempt) -> step::Model {
        let id = (attempt.operation.0, i16::try_from(attempt.seq).unwrap());
        step::Entity::find_by_id(id).one(self.database.read()).await.unwrap().unwrap()
    }

    /// The attempt of an operation that is out.
    async fn current(&self, operation: OperationId) -> Attempt {
        let steps = step::Entity::find().filter(step::Column::OperationId.eq(operation.0));
        let steps = steps.filter(step::Column::State.is_in(["sent", "running"])).all(self.database.read()).await.unwrap();
        let [step] = &steps[..] else { panic!("{steps:?}") };
        let (seq, n) = (u16::try_from(step.seq).unwrap(), u32::try_from(step.attempt).unwrap());
        Attempt { operation, seq, n, way: serde_json::from_value(json!(step.way)).unwrap() }
    }

    /// Submits an operation; the attempt of its first step, if that is sent at once.
    async fn submit(&self, message_id: &str) -> Option<Attempt> {
        self.command(message_id, "idle", json!({"zone": "z1"})).await
    }

    /// The same of any kind.
    async fn command(&self, message_id: &str, kind: &str, body: Value) -> Option<Attempt> {
        sent(&self.write(vec![command(message_id, kind, body)]).await).pop()
    }
}

/// A command of the socket's user.
fn command(message_id: &str, kind: &str, body: Value) -> Item {
    Item::Command(Arc::new(Command {
        kind: kind.into(),
        message_id: message_id.into(),
        user: "local".into(),
        tenant: None,
        reply_to: None,
        correlation_id: None,
        priority: 0,
        body,
    }))
}

/// Attempts that are sent.
fn sent(written: &Written) -> Vec<Attempt> {
    let steps = written.passing.iter().filter(|it| it.exchange == names::STEPS);
    steps.map(|it| serde_json::from_str::<StepMessage>(&it.body).unwrap().attempt).collect()
}

fn report(report: Report) -> Item {
    Item::Report(Arc::new(report))
}

fn words(written: &Written) -> Vec<Control> {
    let control = written.passing.iter().filter(|it| it.exchange == names::CONTROL);
    control.map(|it| serde_json::from_str(&it.body).unwrap()).collect()
}

#[tokio::test]
async fn a_start_that_is_announced_twice_at_once_is_granted_and_not_stopped() {
    let journal = Journal::new().await;
    let attempt = journal.submit("m1").await.unwrap();
    let started = || report(Report::Started { attempt, worker: "w1".into(), token: None });
    let written = journal.write(vec![started(), started()]).await;
    let words = words(&written);
    assert!(words.len() == 2 && words.iter().all(|it| matches!(it, Control::Go { .. })), "{words:?}");
}

#[tokio::test]
async fn each_start_is_answered_with_its_own_token() {
    let journal = Journal::new().await;
    let attempt = journal.submit("m1").await.unwrap();
    let started = |token| report(Report::Started { attempt, worker: "w1".into(), token });
    let tokens = |written: Written| {
        let token = |it| if let Control::Go { token, .. } = it { token } else { panic!("{it:?}") };
        words(&written).into_iter().map(token).collect::<Vec<_>>()
    };
    assert_eq!(tokens(journal.write(vec![started(Some(1)), started(Some(2))]).await), [Some(1), Some(2)]);
    // A worker of an older version.
    assert_eq!(tokens(journal.write(vec![started(None)]).await), [None]);
}

#[tokio::test]
async fn a_renewal_beside_its_start_is_granted_and_not_stopped() {
    let journal = Journal::new().await;
    let attempt = journal.submit("m1").await.unwrap();
    let running = Running { attempt, done_bytes: 7, total_bytes: Some(9), sealed: vec![] };
    let renew = Report::Renew { worker: "w1".into(), token: 1, running: vec![running] };
    let written = journal.write(vec![report(Report::Started { attempt, worker: "w1".into(), token: None }), report(renew)]).await;
    let stopped = words(&written).into_iter().any(|it| match it {
        Control::Renewed { stop, .. } => !stop.is_empty(),
        Control::Stop { .. } => true,
        Control::Go { .. } | Control::Welcome { .. } | Control::SiteChanged { .. } => false,
    });
    assert!(!stopped);
}

#[tokio::test]
async fn a_cancelled_attempt_that_was_not_told_to_stop_is_told_by_its_next_renewal_and_by_its_next_start() {
    let journal = Journal::new().await;
    let attempt = journal.submit("m1").await.unwrap();
    let started = || report(Report::Started { attempt, worker: "w1".into(), token: None });
    journal.write(vec![started()]).await;
    journal.command("m2", "cancel", json!({"operation": attempt.operation})).await;
    let due_at = journal.step(attempt).await.due_at;
    let running = serde_json::from_value(json!({"attempt": attempt, "done_bytes": 7})).unwrap();
    let renew = Report::Renew { worker: "w1".into(), token: 1, running: vec![running] };
    let told = words(&journal.write(vec![report(renew)]).await);
    assert!(matches!(&told[..], [Control::Renewed { stop, .. }] if *stop == [attempt]), "{told:?}");
    let told = words(&journal.write(vec![started()]).await);
    assert_eq!(told, [Control::Stop { attempt }]);
    assert_eq!(journal.step(attempt).await.due_at, due_at, "its lease ends when it would have");
}

#[tokio::test]
async fn a_start_that_is_announced_again_counts_its_lease_from_now_and_keeps_its_progress() {
    let journal = Journal::new().await;
    let attempt = journal.submit("m1").await.unwrap();
    let started = || report(Report::Started { attempt, worker: "w1".into(), token: None });
    journal.write(vec![started()]).await;
    let running = Running { attempt, done_bytes: 7, total_bytes: Some(9), sealed: vec![] };
    journal.write(vec![report(Report::Renew { worker: "w1".into(), token: 1, running: vec![running] })]).await;
    // As if the lease were nearly over.
    let update =
        step::Entity::update_many().col_expr(step::Column::DueAt, Expr::val(1)).filter(step::Column::State.eq("running"));
    let shortened = journal.database.transact(|tx| async move { Ok(update.exec(tx).await?.rows_affected) }.boxed());
    assert_eq!(shortened.await.unwrap(), 1);
    journal.write(vec![started()]).await;
    let after = journal.step(attempt).await;
    assert!(after.due_at > Some(1), "{after:?}");
    assert_eq!((after.done_bytes, after.total_bytes), (7, Some(9)));
}

/// A control plane sends a message again whose answer it didn't get; meanwhile the site got its first user.
#[tokio::test]
async fn the_same_message_has_the_same_answer_also_when_the_site_says_since_for_whom_its_user_acts() {
    let journal = Journal::new().await;
    let Item::Command(asked) = command("m1", "idle", json!({"zone": "z1"})) else { unreachable!() };
    let asked = Item::Command(Arc::new(Command { user: "cloud".into(), ..(*asked).clone() }));
    let answer = |mut written: Written| match written.absorbed.remove(0) {
        Absorbed::Replied(reply) => *reply,
        Absorbed::Done => panic!("no answer"),
    };
    let first = answer(journal.write(vec![asked.clone()]).await);
    assert!(first.accepted && !first.duplicate, "{first:?}");
    let wanted = "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n[[user]]\nname = \"cloud\"\ntenants = [\"red\"]\n";
    let known = site::read(journal.database.read()).await.unwrap();
    site::apply(&journal.database, &known, &Site::parse(wanted).unwrap()).await.unwrap().unwrap();
    assert_eq!(answer(journal.write(vec![asked]).await), Reply { duplicate: true, ..first });
}

#[tokio::test]
async fn room_that_another_engine_made_in_a_queue_is_seen_without_it() {
    let first = Journal::with(Config { queue_depth: 1, ..Config::default() }).await;
    let second = first.beside();
    let attempt = first.submit("m1").await.unwrap();
    assert_eq!(first.submit("m2").await, None, "the queue is full");
    // Another engine hears of the start, sends what waits, hears of its start too, and is gone.
    let waiting = sent(&second.write(vec![report(Report::Started { attempt, worker: "w1".into(), token: None })]).await);
    assert_eq!(waiting.len(), 1);
    second.write(vec![report(Report::Started { attempt: waiting[0], worker: "w1".into(), token: None })]).await;
    drop(second);
    assert!(first.submit("m3").await.is_some(), "the queue is empty");
}
