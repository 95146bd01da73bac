//! What is asked of an empty database, of a small and of a large one: each question by the product's own function, and
//! the statements that it is made of by the product's own builders.

use super::generate::{PERSON, TENANT, ZONE};
use anyhow::{Context, Result, ensure};
use longshore_engine::{
    audit::{self, Filter, Only},
    clock,
    config::Config,
    database::{self, Database},
    world::{Surroundings, Touch},
    world_read,
};
use longshore_schema::{ids::OperationId, tables::operation};
use sea_orm::{DatabaseBackend, EntityTrait, QuerySelect, QueryTrait, Statement};

/// Rows of a page, as `longshore list` asks for them.
const PAGE: u64 = 50;
/// Subject, store and tenant of a volume whose every operation is a backup that is Ready, from the forty-sixth operation on.
const LINEAGE: [&str; 3] = ["fast/volume46", "main", TENANT];
/// Rows of an audit of one person, as many as a small database has.
const FEW: u64 = 4;

/// Something that is asked.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// A page of operations.
    List(Filter),
    /// The same, older than one of those that are asked about.
    NextPage(Filter),
    /// One operation.
    Show,
    /// An operation's history.
    History,
    /// What happened last, or what one did.
    Audit(Option<&'static str>, u64),
    /// The clock's look at everything that may be due.
    Clock,
    /// What the engine reads to plan a backup: the latest one of the same volume.
    Lineage,
    /// What it reads to plan a copy: the latest object of the same volume in the other store.
    Kin,
}

/// All of them, by name.
pub(super) fn all() -> Vec<(&'static str, Question)> {
    let page = Filter { limit: Some(PAGE), ..Filter::default() };
    let some = |text: &str| Some(text.to_owned());
    let list = |change: &dyn Fn(&mut Filter)| {
        let mut filter = page.clone();
        change(&mut filter);
        Question::List(filter)
    };
    vec![
        ("list", Question::List(page.clone())),
        ("list --state ready", list(&|it| it.state = some("ready"))),
        ("list --state failed", list(&|it| it.state = some("failed"))),
        ("list --state copying", list(&|it| it.state = some("copying"))),
        ("list --kind", list(&|it| it.kind = some("backup-snapshot"))),
        ("list --zone", list(&|it| it.zone = some(ZONE))),
        ("list --zone, one that isn't there", list(&|it| it.zone = some("nowhere"))),
        ("list --tenant", list(&|it| it.tenant = some(TENANT))),
        ("list --tenant, one that isn't there", list(&|it| it.tenant = some("nobody"))),
        (
            "list --tenant --state",
            list(&|it| {
                it.tenant = some(TENANT);
                it.state = some("failed");
            }),
        ),
        (
            "list --zone --kind",
            list(&|it| {
                it.zone = some(ZONE);
                it.kind = some("verify-object");
            }),
        ),
        (
            "list --kind --state",
            list(&|it| {
                it.kind = some("backup-snapshot");
                it.state = some("failed");
            }),
        ),
        ("next page", Question::NextPage(page.clone())),
        ("next page --tenant --state", Question::NextPage(Filter { tenant: some(TENANT), state: some("ready"), ..page })),
        ("show", Question::Show),
        ("history", Question::History),
        ("audit", Question::Audit(None, PAGE)),
        ("audit --actor, a person", Question::Audit(Some(PERSON), FEW)),
        ("audit --actor, a person who isn't there", Question::Audit(Some("user:nobody"), FEW)),
        ("the clock", Question::Clock),
        ("planning a backup", Question::Lineage),
        ("planning a copy", Question::Kin),
    ]
}

impl Question {
    /// Whether it is about something that an empty database doesn't have.
    pub(super) fn needs_operations(&self) -> bool {
        match self {
            Question::List(_) | Question::Audit(..) | Question::Clock => false,
            Question::NextPage(_) | Question::Show | Question::History | Question::Lineage | Question::Kin => true,
        }
    }

    /// Asks it once, about that operation if it is about one.
    pub(super) async fn ask(&self, database: &Database, about: OperationId) -> Result<()> {
        let db = database.read();
        match self {
            Question::List(filter) => drop(audit::list(db, filter).await?),
            Question::NextPage(filter) => {
                drop(audit::list(db, &Filter { after: Some(about), ..filter.clone() }).await?);
            }
            Question::Show => drop(audit::show(db, about).await?.context("an operation is gone")?),
            Question::History => ensure!(!audit::history(db, about, 0, 1000).await?.is_empty(), "a history is gone"),
            Question::Audit(actor, limit) => drop(audit::audit(db, only(*actor), *limit).await?),
            Question::Clock => drop(clock::due(database, Config::default(), true).await?),
            Question::Lineage => {
                let [subject, store, tenant] = LINEAGE.map(str::to_owned);
                let touches = vec![Touch::Lineage { subject, store, tenant }];
                let world = world_read::read(db, Surroundings::default(), touches).await?;
                ensure!(world.lineage.is_some(), "nothing to go on from");
            }
            Question::Kin => {
                let [_, store, tenant] = LINEAGE.map(str::to_owned);
                let touches = vec![Touch::Kin { object: about, store, tenant }];
                let world = world_read::read(db, Surroundings::default(), touches).await?;
                ensure!(world.objects.contains_key(&about), "an operation is gone");
            }
        }
        Ok(())
    }

    /// Its statements, each with what it is for.
    pub(super) async fn statements(&self, database: &Database, about: OperationId) -> Result<Vec<(&'static str, Statement)>> {
        let backend = sea_orm::ConnectionTrait::get_database_backend(database.read());
        let views = |ids: &[uuid::Uuid]| {
            [("holds", audit::holds_on(ids).build(backend)), ("steps under way", audit::steps_out(ids).build(backend))]
        };
        let page = async |filter: &Filter| -> Result<Vec<(&'static str, Statement)>> {
            let rows = audit::listed(filter).all(database.read()).await?;
            let ids: Vec<_> = rows.iter().map(|it| it.id).collect();
            let list = [("operations", audit::listed(filter).build(backend))];
            Ok(if ids.is_empty() { list.into() } else { list.into_iter().chain(views(&ids)).collect() })
        };
        Ok(match self {
            Question::List(filter) => page(filter).await?,
            Question::NextPage(filter) => page(&Filter { after: Some(about), ..filter.clone() }).await?,
            Question::Show => {
                let one = [("operation", operation::Entity::find_by_id(about.0).build(backend))];
                one.into_iter().chain(views(&[about.0])).collect()
            }
            Question::History => vec![("events", audit::events_of(about, 0, 1000).build(backend))],
            Question::Audit(actor, limit) => vec![("events", audit::audited(only(*actor), *limit).build(backend))],
            Question::Clock => clock::due::statements(backend, database::now(database.read()).await?),
            Question::Lineage => {
                let [subject, store, tenant] = LINEAGE;
                let backups = world_read::backups_of(subject, store, tenant).limit(1).build(backend);
                vec![("backups", backups), ("made", world_read::made_as(subject, tenant).limit(1).build(backend))]
            }
            Question::Kin => {
                let [subject, store, tenant] = LINEAGE;
                vec![("copies", world_read::copies_of(subject, store, tenant).limit(1).build(backend))]
            }
        })
    }
}

fn only(actor: Option<&'static str>) -> Only<'static> {
    Only { actor, ..Only::default() }
}

/// A statement that explains this one instead of running it, or beside.
pub(super) fn explained(statement: Statement, how: &str) -> Statement {
    let explain = match statement.db_backend {
        DatabaseBackend::Postgres => format!("EXPLAIN ({how}) "),
        DatabaseBackend::Sqlite | DatabaseBackend::MySql | _ => "EXPLAIN QUERY PLAN ".to_owned(),
    };
    Statement { sql: explain + &statement.sql, ..statement }
}
