//! Whether anybody is there to do what is waited for: who waits in vain is told so, and what to do.

use crate::{
    ended::Ended,
    print::human,
    session::{self, Session},
    settings::Broker,
};
use longshore_engine::{
    config::Config,
    database::{Database, sqlite_path},
};
use longshore_schema::{tables::worker, time::Timestamp};
use sea_orm::{EntityTrait, QueryOrder};
use std::path::Path;

/// Less than this is left where nothing more can be written down.
const ROOM: u64 = 256 << 10;

/// Why nothing goes on, in words; nothing if something may.
pub(crate) async fn missing(session: &Session, database: &Database) -> Result<Option<String>, Ended> {
    let full = no_room(session);
    if full.is_some() {
        return Ok(full);
    }
    match (&session.settings.broker, session.settings.socket()) {
        (Broker::Embedded, Some(socket)) => {
            let listens = tokio::net::UnixStream::connect(&socket).await.is_ok();
            let why = || "no engine runs on this database; what isn't over goes on once one does: longshore engine".to_owned();
            Ok((!listens).then(why))
        }
        (Broker::Embedded, None) => Ok(None),
        (Broker::Amqp(_), _) => {
            let last = worker::Entity::find().order_by_desc(worker::Column::SeenAt).one(database.read()).await;
            let heard = last.map_err(Ended::unreachable)?.map(|it| Timestamp(it.seen_at));
            Ok(silence(session::now(database).await?, heard))
        }
    }
}

/// That the file system of an embedded database is full, if it is.
pub(crate) fn no_room(session: &Session) -> Option<String> {
    let path = Path::new(sqlite_path(&session.settings.database)?);
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(folder).ok()?;
    (found.f_bavail.saturating_mul(found.f_frsize) < ROOM).then(|| {
        let (path, folder) = (path.display(), folder.display());
        format!("{folder} is full, so nothing more is written to the database {path}, and nothing goes on: make room there")
    })
}

/// Engines write down when they hear a worker, which says something every ten seconds: where nobody was heard, one of
/// them is missing.
fn silence(now: Timestamp, heard: Option<Timestamp>) -> Option<String> {
    let since = match heard.map(|it| now.seconds_since(it)) {
        Some(silent_s) if silent_s <= f64::from(Config::default().worker_silence_s) => return None,
        Some(silent_s) => format!("no worker has been heard for {}", human::span(silent_s)),
        None => "no worker has ever been heard".to_owned(),
    };
    Some(format!(
        "{since}: no engine runs (longshore engine), or no worker (longshore worker); what isn't over goes on once both do"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_no_worker_is_told_for_how_long_and_what_to_do() {
        let now = Timestamp(100_000_000);
        assert_eq!(silence(now, Some(Timestamp(70_000_000))), None);
        let told = silence(now, Some(Timestamp(69_000_000))).unwrap();
        assert!(told.contains("for 31 s") && told.contains("longshore engine") && told.contains("longshore worker"), "{told}");
        assert!(silence(now, None).unwrap().contains("ever"));
    }
}
