//! What an engine remembers, when another one has gone on meanwhile.

use super::*;
use crate::{database::Failed, machine::State};
use longshore_schema::{
    ids::PackId,
    steps::{
        object::{Committed, Copied, Root, Sealed},
        volume::{Format, Measured},
    },
    tables::{operation, pack_use},
    wire::{Announce, Outcome},
};

/// A zone with a store of 1 GiB, and a pool.
pub(super) const SITE: &str = r#"
[[zone]]
name = "z1"
region = "r1"

[[store]]
name = "main"
url = "file:///main"
region = "r1"
capacity = "1 GiB"
extent_size = "256 KiB"

[[pool]]
name = "fast"
zone = "z1"
hypervisor = "kvm"
url = "file:///fast"
capacity = "1 GiB"
"#;

/// A worker that reaches both.
pub(super) fn announced() -> Item {
    let announce: Announce = serde_json::from_value(json!({
        "worker": "w1", "incarnation": uuid::Uuid::nil(), "kind": "kvm", "host": "h1", "zone": "z1", "version": "1",
        "tools": {}, "pools": ["fast"], "stores": ["main"], "concurrency": 4,
    }))
    .unwrap();
    report(Report::Announce(announce))
}

pub(super) fn done(attempt: Attempt, output: impl serde::Serialize) -> Item {
    let result = Outcome::Output(serde_json::to_value(output).unwrap());
    report(Report::Done { attempt, worker: "w1".into(), result })
}

/// What a step reports that wrote an object of one pack.
pub(super) fn copied(of: Attempt) -> Copied {
    Copied {
        root: Root { attempt: of.n, digest: "0".repeat(64), bytes: 500 },
        digest: "0".repeat(64),
        virtual_size: 1 << 20,
        extent_size: 256 << 10,
        read: 0,
        stored: 0,
        reused: 0,
        resumed: 0,
        repacked: 0,
        zeros: 0,
        read_back: 0,
        because: None,
        packs: vec![Sealed { id: PackId { operation: of.operation, attempt: of.n, n: 0 }, bytes: 1000 }],
        unused: vec![],
        dropped: vec![],
        sparse: vec![],
        without_base: false,
    }
}

/// A backup of the disk up to its commit: the attempt of that, and its report.
pub(super) async fn before_commit(journal: &Journal, message_id: &str) -> (Attempt, Item) {
    let body = json!({"zone": "z1", "store": "main", "pool": "fast", "volume": "disk.raw"});
    let measure = journal.command(message_id, "backup-snapshot", body).await.unwrap();
    let measured = Measured { virtual_size: 1 << 20, allocated: 1 << 20, format: Format::Raw };
    let copy = sent(&journal.write(vec![done(measure, measured)]).await).pop().unwrap();
    let copied = copied(copy);
    let root = copied.root.clone();
    let commit = sent(&journal.write(vec![done(copy, copied)]).await).pop().unwrap();
    (commit, done(commit, Committed { root, read_back: 0 }))
}

#[tokio::test]
async fn a_report_that_another_engine_took_is_taken_again_by_one_that_remembers_what_was_before() {
    let journal = Journal::at(Config::default(), SITE).await;
    journal.write(vec![announced()]).await;
    let (base, committed) = before_commit(&journal, "m1").await;
    journal.write(vec![committed]).await;
    let (commit, committed) = before_commit(&journal, "m2").await;
    journal.beside().write(vec![committed.clone()]).await;
    let uses = async || {
        let used = pack_use::Entity::find().filter(pack_use::Column::ObjectId.eq(commit.operation.0));
        used.all(journal.database.read()).await.unwrap().len()
    };
    assert_eq!(uses().await, 2, "its own pack, and that of {}", base.operation);
    // It would take over the base's packs once more.
    let failed = journal::write(&journal.database, &journal.memory, journal.config, vec![committed.clone()], vec![]).await;
    assert!(matches!(failed, Err(Failed::Conflict(_))), "{:?}", failed.err());
    assert!(sent(&journal.write(vec![committed]).await).is_empty());
    let row = operation::Entity::find_by_id(commit.operation.0).one(journal.database.read()).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), uses().await), (crate::journal::rows::state_name(State::Ready), 2));
}
