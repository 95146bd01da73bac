//! What is asked every day costs the same however much is over: plans of every query are looked at on a database with many
//! operations, and what an engine's own work reads of it is counted. Nothing is timed here; `cargo xtask bench growth` is.

use longshore_engine::database::Database;
use longshore_schema::ids::OperationId;
use longshore_tests::{
    bench::growth::{Generator, Rows, readings, sqlite_plans, touched_by},
    services::Services,
};

/// Operations that are over.
const OPERATIONS: u64 = 20_000;
/// No query needs more rows than this: a page has fifty operations, each with a few steps.
const MOST: f64 = 1000.0;

/// Indexes of what is under way, or that a query reads in its order until it has a page: to read them from one end is fine.
const SHORT: [&str; 7] =
    ["history_at", "operation_deadline", "operation_destroy", "operation_waiting", "pack_dying", "step_due", "step_unsent"];
/// Tables that grow.
const GROWING: [&str; 6] = ["history", "message_seen", "operation", "pack", "pack_use", "step"];

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_no_question_reads_more_than_a_page() {
    let url = Services::from_env().fresh_database().await;
    let database = Database::open(&url).await.unwrap();
    let mut generator = Generator::new(&url, OPERATIONS, Rows::Whole).await.unwrap();
    generator.fill(OPERATIONS, None).await.unwrap();
    generator.settle().await.unwrap();
    let about = generator.ids(3).await.unwrap()[1];
    generator.end().await.unwrap();
    let readings = readings(&database, about).await.unwrap();
    assert!(readings.len() > 30, "{readings:?}");
    let wrong: Vec<_> =
        readings.iter().filter(|it| it.rows > MOST || it.scanned.iter().any(|table| GROWING.contains(&table.as_str()))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_every_question_has_its_index() {
    let folder = tempfile::tempdir().unwrap();
    // Without statistics SQLite plans the same whatever is in the tables.
    let database = Database::open(&format!("sqlite://{}/longshore.db", folder.path().display())).await.unwrap();
    let plans = sqlite_plans(&database, OperationId::new()).await.unwrap();
    assert!(plans.len() > 20, "{plans:?}");
    let scans = |line: &&String| {
        let table = line.strip_prefix("SCAN ").and_then(|it| it.split(' ').next()).unwrap_or_default();
        GROWING.contains(&table) && !SHORT.iter().any(|index| line.ends_with(&format!("INDEX {index}")))
    };
    for (what, plan) in plans {
        let wrong: Vec<_> = plan.iter().filter(scans).collect();
        // The newest operations of all are read from the end of their own key.
        let newest = what == "list, operations" && wrong == ["SCAN operation USING INDEX sqlite_autoindex_operation_1"];
        assert!(wrong.is_empty() || newest, "{what}: {plan:?}");
        // `operation_state` would do too, and have every Ready operation read at each tick.
        assert!(what != "the clock, destroys" || plan[0].contains("operation_destroy"), "{plan:?}");
        // What is under way, or of one volume, is little and may be sorted.
        let page = what.ends_with(", operations") || what.ends_with(", events");
        assert!(!page || !plan.iter().any(|it| it == "USE TEMP B-TREE FOR ORDER BY"), "{what}: {plan:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_at_work_reads_nothing_of_what_is_over() {
    let work = 50;
    let touched = touched_by(work, OPERATIONS).await.unwrap();
    // A dozen transactions each, and the clock's looks: far from all that is there.
    for table in GROWING {
        let read = touched[table];
        assert!(read < OPERATIONS as i64 / 2, "{work} operations read {read} rows of {table}: {touched:?}");
    }
    assert!(touched["operation"] > 0, "{touched:?}");
}
