//! `longshore doctor`: checks everything that this host should reach, and says what to do about what it doesn't.

mod check;

use crate::{
    ended::Ended,
    presence,
    session::{self, Session},
    settings::Broker,
};
use check::{Check, Outcome};
use clap::Args;
use longshore_engine::{
    books,
    database::{Database, hide_password},
};
use longshore_schema::{
    site::{Pool, Store},
    time::Timestamp,
};
use longshore_workers::{hypervisor::kvm, opener, store};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock may differ from the database's by so many seconds before somebody should know.
const SKEW_S: f64 = 5.0;
/// A place that hasn't answered by then doesn't.
const PATIENCE: Duration = Duration::from_secs(15);

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

impl Doctor {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let mut checks = vec![];
        let database = session.reading().await;
        checks.push(check_database(session, database.as_ref()));
        checks.push(check_broker(session).await);
        if let Ok(database) = &database {
            checks.push(check_clock(database).await);
            checks.extend(check_site(database).await);
            checks.extend(check_books(database).await);
        }
        checks.extend(check_tools().await);
        session.out.list(&checks, check::text)?;
        let failed = checks.iter().filter(|it| it.outcome == Outcome::Fail).count();
        if failed == 0 { Ok(()) } else { Err(Ended::Found(format!("{failed} of {} checks failed", checks.len()))) }
    }
}

fn check_database(session: &Session, database: Result<&Database, &Ended>) -> Check {
    let shown = hide_password(&session.settings.database);
    match database {
        Ok(_) => match presence::no_room(session) {
            Some(full) => Check::fail("database", format!("{shown}: {full}"), "make room in that folder's file system"),
            None => Check::ok("database", shown),
        },
        Err(ended) => {
            let full = presence::no_room(session);
            let next = full.unwrap_or_else(|| {
                "set LONGSHORE_DATABASE; see that the server runs, and that an engine was started on it once".to_owned()
            });
            Check::fail("database", format!("{shown}: {}", ended.message()), next)
        }
    }
}

async fn check_broker(session: &Session) -> Check {
    match (&session.settings.broker, session.settings.socket()) {
        (Broker::Amqp(url), _) => match longshore_courier::open(url, "longshore doctor").await {
            Ok(courier) => {
                courier.close().await;
                Check::ok("broker", hide_password(url))
            }
            Err(error) => Check::fail(
                "broker",
                format!("{}: {error:#}", hide_password(url)),
                "see that RabbitMQ runs and lets this user in",
            ),
        },
        (Broker::Embedded, Some(socket)) => match tokio::net::UnixStream::connect(&socket).await {
            Ok(_) => Check::ok("broker", format!("embedded; an engine listens on {}", socket.display())),
            Err(_) => {
                let next = "start one with `longshore engine`, or let each `longshore submit` run its own";
                Check::warn("broker", "embedded; no engine runs", next)
            }
        },
        (Broker::Embedded, None) => {
            let next = "set LONGSHORE_BROKER to amqp://…, or LONGSHORE_DATABASE to sqlite://…";
            Check::fail("broker", "the embedded broker doesn't work with PostgreSQL", next)
        }
    }
}

async fn check_clock(database: &Database) -> Check {
    let now = match session::now(database).await {
        Ok(now) => now,
        Err(error) => return Check::fail("clock", format!("the database's: {}", error.message()), "was the database migrated?"),
    };
    let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_micros());
    let here = Timestamp(i64::try_from(here).unwrap_or(i64::MAX));
    let skew = here.seconds_since(now).max(now.seconds_since(here));
    let said = format!("{skew:.1} s between this host and the database");
    match skew > SKEW_S {
        true => Check::warn("clock", said, "synchronise both; Longshore goes by the database's, your logs don't"),
        false => Check::ok("clock", said),
    }
}

async fn check_site(database: &Database) -> Vec<Check> {
    let known = match super::site::read(database).await {
        Ok(known) => known,
        Err(error) => return vec![Check::fail("site", error.message(), "start an engine once: it migrates the database")],
    };
    if known.site.zones.is_empty() {
        return vec![Check::warn("site", "there is none", "describe zones, pools and stores: longshore site apply site.toml")];
    }
    let mut checks = vec![Check::ok("site", format!("version {} of database {}", known.version, known.incarnation))];
    for it in &known.site.stores {
        checks.push(timed(&format!("store {}", it.name), check_store(it, known.incarnation)).await);
    }
    for it in &known.site.pools {
        checks.push(timed(&format!("pool {}", it.name), check_pool(it)).await);
    }
    checks
}

/// Whether each place's totals are the sums of what is booked there. Nothing to say where there are no places.
async fn check_books(database: &Database) -> Option<Check> {
    let books = match tokio::time::timeout(PATIENCE, books::read(database.read())).await {
        Ok(Ok(books)) => books,
        Ok(Err(error)) => return Some(Check::fail("books", format!("{error:#}"), "was the database migrated?")),
        Err(_) => {
            let found = format!("not added up within {} s: there are too many rows", PATIENCE.as_secs());
            return Some(Check::warn("books", found, "nothing is known to be wrong; run it where the database is less busy"));
        }
    };
    let wrong: Vec<_> = books.iter().filter(|it| !it.agree()).map(ToString::to_string).collect();
    if wrong.is_empty() {
        let places = if books.len() == 1 { "1 place agrees".into() } else { format!("{} places agree", books.len()) };
        return (!books.is_empty()).then(|| Check::ok("books", format!("{places} with what is booked there")));
    }
    let next = "this should never be: keep the database as it is and report it, with `longshore audit --json`; until then \
        trust no number of `longshore stores`";
    Some(Check::fail("books", wrong.join("; "), next))
}

async fn timed(what: &str, check: impl Future<Output = Check>) -> Check {
    match tokio::time::timeout(PATIENCE, check).await {
        Ok(check) => check,
        Err(_) => Check::fail(what, format!("no answer within {} s", PATIENCE.as_secs()), "see that it is mounted, or listens"),
    }
}

async fn check_store(place: &Store, incarnation: uuid::Uuid) -> Check {
    let what = format!("store {}", place.name);
    let next =
        format!("see docs/faults, correct the site file or this host's credentials, then: longshore site apply ({})", place.url);
    match store::open::attach(place, incarnation).await {
        Err(fault) => Check::fail(&what, fault.to_string(), next),
        Ok((opened, description)) => match opened.ping().await {
            Err(fault) => Check::fail(&what, fault.to_string(), next),
            Ok(()) => {
                let size = crate::print::human::bytes(u64::from(description.extent_size));
                Check::ok(&what, format!("{}, extents of {size}", place.url))
            }
        },
    }
}

async fn check_pool(place: &Pool) -> Check {
    let what = format!("pool {}", place.name);
    let pinged = match opener::pool(place) {
        Ok(pool) => pool.ping().await,
        Err(fault) => Err(fault),
    };
    match pinged {
        Ok(()) => Check::ok(&what, place.url.clone()),
        Err(fault) => {
            let next = "needed on hosts with workers of its kind only: make the directory, and let this user write to it";
            Check::fail(&what, fault.to_string(), next)
        }
    }
}

async fn check_tools() -> Vec<Check> {
    let found = kvm::tools().await;
    let check = |tool: &str| match found.get(tool) {
        Some(version) => Check::ok(tool, version.clone()),
        None => Check::fail(tool, "not found", "kvm workers need it: install qemu-utils"),
    };
    vec![check("qemu-img"), check("qemu-nbd")]
}
