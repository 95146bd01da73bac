//! Reports that arrive together: a batch is one transaction, whose rows are written at its end.

#![cfg(feature = "suite")]

use crate::{
    command::Command,
    config::Config,
    database::Database,
    journal::{self, Item, Written, memory::Memory},
    site,
};
use longshore_schema::{
    site::Site,
    step::{Attempt, StepMessage},
    wire::{Control, Report, Running, names},
};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Mutex;

struct Journal {
    database: Database,
    memory: Arc<Mutex<Memory>>,
    _dir: tempfile::TempDir,
}

impl Journal {
    async fn new() -> Journal {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/longshore.db", dir.path().display())).await.unwrap();
        let known = site::read(database.read()).await.unwrap();
        let wanted = Site::parse("[[zone]]\nname = \"z1\"\nregion = \"r1\"\n").unwrap();
        site::apply(&database, &known, &wanted).await.unwrap().unwrap();
        Journal { database, memory: Arc::default(), _dir: dir }
    }

    async fn write(&self, items: Vec<Item>) -> Written {
        journal::write(&self.database, &self.memory, Config::default(), items, vec![]).await.unwrap()
    }

    /// Submits an operation; the attempt of its first step.
    async fn sent(&self) -> Attempt {
        let command = Command {
            kind: "idle".into(),
            message_id: "m1".into(),
            user: "local".into(),
            tenant: None,
            reply_to: None,
            correlation_id: None,
            priority: 0,
            body: json!({"zone": "z1"}),
        };
        let written = self.write(vec![Item::Command(Arc::new(command))]).await;
        let step = written.outbox.iter().find(|it| it.exchange == names::STEPS).unwrap();
        serde_json::from_str::<StepMessage>(&step.body).unwrap().attempt
    }
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
    let attempt = journal.sent().await;
    let started = || report(Report::Started { attempt, worker: "w1".into() });
    let written = journal.write(vec![started(), started()]).await;
    let words = words(&written);
    assert!(words.len() == 2 && words.iter().all(|it| matches!(it, Control::Go { .. })), "{words:?}");
}

#[tokio::test]
async fn a_renewal_beside_its_start_is_granted_and_not_stopped() {
    let journal = Journal::new().await;
    let attempt = journal.sent().await;
    let running = Running { attempt, done_bytes: 7, total_bytes: Some(9), sealed: vec![] };
    let renew = Report::Renew { worker: "w1".into(), token: 1, running: vec![running] };
    let written = journal.write(vec![report(Report::Started { attempt, worker: "w1".into() }), report(renew)]).await;
    let stopped = words(&written).into_iter().any(|it| match it {
        Control::Renewed { stop, .. } => !stop.is_empty(),
        Control::Stop { .. } => true,
        Control::Go { .. } | Control::Welcome { .. } | Control::SiteChanged { .. } => false,
    });
    assert!(!stopped);
}
