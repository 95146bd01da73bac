//! On PostgreSQL a transaction whose work is one statement has no `BEGIN`: what must not be written makes it fail.

use longshore_engine::{
    command::Command,
    config::Config,
    database::{Database, Failed},
    journal::{self, Absorbed, Item, memory::Memory},
    site,
};
use longshore_schema::{
    ids::OperationId,
    site::Site,
    step::{Attempt, Way},
    tables::{operation, zone},
    time::Timestamp,
    wire::{Outcome, Reply, Report},
};
use longshore_tests::services::Services;
use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait, PaginatorTrait, Statement};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A text that needs care in an array, in JSON and in SQL.
const AWKWARD: &str = r#"a "b" \ {c}, NULL; 'd' ä"#;

async fn with_a_zone(url: &str) -> Database {
    let database = Database::open(url).await.unwrap();
    let wanted = Site::parse("[[zone]]\nname = \"z1\"\nregion = \"r1\"\n").unwrap();
    let known = site::read(database.read()).await.unwrap();
    site::apply(&database, &known, &wanted).await.unwrap().unwrap();
    database
}

fn idle(message_id: &str) -> Item {
    Item::Command(Arc::new(Command {
        kind: "idle".into(),
        message_id: message_id.into(),
        user: AWKWARD.into(),
        tenant: None,
        reply_to: None,
        correlation_id: None,
        priority: 0,
        body: json!({"zone": "z1"}),
    }))
}

async fn write(database: &Database, memory: &Arc<Mutex<Memory>>, item: Item) -> Result<Option<Reply>, Failed> {
    let written = journal::write(database, memory, Config::default(), vec![item], vec![]).await?;
    Ok(written.absorbed.into_iter().find_map(|it| if let Absorbed::Replied(reply) = it { Some(*reply) } else { None }))
}

fn first_step_done(operation: OperationId) -> Item {
    let attempt = Attempt { operation, seq: 0, n: 1, way: Way::Do };
    Item::Report(Arc::new(Report::Done { attempt, worker: "h1-kvm".into(), result: Outcome::Output(json!(null)) }))
}

async fn version(database: &Database, id: OperationId) -> i64 {
    operation::Entity::find_by_id(id.0).one(database.read()).await.unwrap().unwrap().version
}

#[tokio::test]
async fn a_statement_that_finds_a_change_writes_nothing() {
    let database = with_a_zone(&Services::from_env().fresh_database().await).await;
    for (arguments, fails) in [("true, NULL", false), ("true, true", false), ("false, NULL", true), ("true, false", true)] {
        let before = zone::Entity::find().count(database.read()).await.unwrap();
        let sql = format!(
            "WITH new AS (INSERT INTO zone (name, region, path) VALUES ('new' || clock_timestamp()::text, 'r1', 'auto')) \
             SELECT longshore_unchanged({arguments})"
        );
        let statement = Statement::from_string(DatabaseBackend::Postgres, sql);
        let done = database.transact(move |tx| Box::pin(async move { Ok(tx.query_last(statement).await?.is_some()) })).await;
        assert_eq!(matches!(done, Err(Failed::Conflict(_))), fails, "{arguments}: {done:?}");
        let added = zone::Entity::find().count(database.read()).await.unwrap() - before;
        assert_eq!(added, u64::from(!fails), "{arguments}");
    }
}

#[tokio::test]
async fn what_somebody_else_was_in_the_way_of_is_told_by_its_code_and_not_by_its_words() {
    let database = Database::open(&Services::from_env().fresh_database().await).await.unwrap();
    for (code, conflict) in [("40001", true), ("40P01", true), ("P0001", false)] {
        let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'deadlock detected, database is locked' USING ERRCODE = '{code}'; END $$");
        let done = database.transact(move |tx| {
            Box::pin(async move {
                tx.execute_unprepared(&sql).await?;
                Ok(())
            })
        });
        match done.await {
            Err(Failed::Conflict(why)) => assert!(conflict && why.contains("deadlock"), "{code}: {why}"),
            Err(Failed::Database(why)) => assert!(!conflict && why.to_string().contains("deadlock"), "{code}: {why}"),
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_time_that_is_not_the_databases_is_not_written() {
    let database = with_a_zone(&Services::from_env().fresh_database().await).await;
    let memory = Arc::default();
    let id = write(&database, &memory, idle("1")).await.unwrap().unwrap().operation.unwrap();
    let before = version(&database, id).await;
    let now = longshore_engine::database::now(database.read()).await.unwrap();
    for off_by_s in [-3600, -2, 2, 3600] {
        memory.lock().await.believe(Timestamp(now.0 + off_by_s * 1_000_000));
        let refused = write(&database, &memory, first_step_done(id)).await;
        assert!(matches!(&refused, Err(Failed::Conflict(why)) if why.contains("time")), "{off_by_s} s: {refused:?}");
        assert_eq!(version(&database, id).await, before);
    }
    // The error made it forget, so that the time is read.
    write(&database, &memory, first_step_done(id)).await.unwrap();
    assert_eq!(version(&database, id).await, before + 1);
}

#[tokio::test]
async fn what_another_engine_changed_is_read_again() {
    let database = with_a_zone(&Services::from_env().fresh_database().await).await;
    let (one, other) = (Arc::default(), Arc::default());
    let id = write(&database, &one, idle("1")).await.unwrap().unwrap().operation.unwrap();
    let before = version(&database, id).await;
    write(&database, &other, first_step_done(id)).await.unwrap();
    // The first engine remembers the operation before that report, and takes it for new.
    let refused = write(&database, &one, first_step_done(id)).await;
    assert!(matches!(refused, Err(Failed::Conflict(_))), "{refused:?}");
    write(&database, &one, first_step_done(id)).await.unwrap();
    assert_eq!(version(&database, id).await, before + 1, "the report counted twice");
}

#[tokio::test]
async fn awkward_texts_are_written_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for url in [Services::from_env().fresh_database().await, format!("sqlite://{}/longshore.db", folder.path().display())] {
        let database = with_a_zone(&url).await;
        let memory = Arc::default();
        let first = write(&database, &memory, idle(AWKWARD)).await.unwrap().unwrap();
        let row = operation::Entity::find_by_id(first.operation.unwrap().0).one(database.read()).await.unwrap().unwrap();
        assert_eq!(row.user_name.as_deref(), Some(AWKWARD));
        let again = write(&database, &memory, idle(AWKWARD)).await.unwrap().unwrap();
        assert_eq!((again.duplicate, again.operation), (true, first.operation), "{}", database.is_sqlite());
    }
}
