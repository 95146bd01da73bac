//! The scene: a site in a scratch folder, an engine in this process, and the operations of the story.

use super::{VOLUME, report::Report};
use crate::{
    ask::{self, Command, Line},
    command::site,
    ended::Ended,
    print::human,
    session::Session,
    wait,
};
use anyhow::Context;
use longshore_engine::{
    audit::{self, OperationView},
    database::Database,
    site as known_site,
};
use longshore_schema::{ids::OperationId, site::Site};
use serde_json::{Value, json};
use std::path::Path;

/// Where the story plays.
pub(super) struct Scene<'s> {
    session: &'s Session,
    database: Database,
    line: Line,
    operations: Vec<OperationId>,
}

impl<'s> Scene<'s> {
    /// Makes the folders and the site, and starts the engine.
    pub(super) async fn set(session: &'s Session, folder: &Path) -> Result<Scene<'s>, Ended> {
        for name in ["pool", "store"] {
            std::fs::create_dir(folder.join(name)).context("make the scratch folder").map_err(Ended::Broken)?;
        }
        let database = session.database().await?;
        let known = site::read(&database).await?;
        let wanted = site_of(folder).map_err(Ended::Refused)?;
        let changes = known_site::difference(&known, &wanted).map_err(Ended::Refused)?;
        site::apply(&database, &known, &wanted, &changes, false).await?;
        let line = Line::open(session).await?;
        Ok(Scene { session, database, line, operations: vec![] })
    }

    /// Backs up a snapshot of the disk.
    pub(super) async fn backup(&mut self, report: &mut Report, what: &str, snapshot: &str) -> Result<OperationView, Ended> {
        let body =
            json!({"zone": "here", "pool": "pool", "volume": VOLUME, "snapshot": snapshot, "store": "store", "name": snapshot});
        let started = report.begin(what);
        let made = self.make("backup-snapshot", body).await?;
        let [read, stored, reused] = ["read", "stored", "reused"].map(|name| number(&made, name));
        let reused_said = if reused > 0 { format!(", reused {}", human::bytes(reused)) } else { String::new() };
        let rate = human::rate(read, started.seconds());
        let said = format!("read {}, stored {}{reused_said} ({rate})", human::bytes(read), human::bytes(stored));
        report.done(started, said, json!({"operation": made.id, "read": read, "stored": stored, "reused": reused}))?;
        Ok(made)
    }

    /// Makes a volume of a backup.
    pub(super) async fn restore(
        &mut self,
        report: &mut Report,
        what: &str,
        from: OperationId,
        volume: &str,
        format: &str,
    ) -> Result<(), Ended> {
        let body = json!({"zone": "here", "from": from, "pool": "pool", "volume": volume, "format": format});
        let started = report.begin(what);
        let made = self.make("create-volume", body).await?;
        let [written, fetched, requests] = ["written", "fetched", "requests"].map(|name| number(&made, name));
        let rate = human::rate(written, started.seconds());
        let fetched_said = human::bytes(fetched);
        let said = format!("to {volume}: wrote {}, fetched {fetched_said} in {requests} reads ({rate})", human::bytes(written));
        let figures =
            json!({"operation": made.id, "volume": volume, "written": written, "fetched": fetched, "requests": requests});
        report.done(started, said, figures)
    }

    /// Destroys a backup.
    pub(super) async fn destroy(&mut self, report: &mut Report, what: &str, id: OperationId) -> Result<(), Ended> {
        let started = report.begin(what);
        let reply = self.line.ask(self.session, &Command::request("destroy", json!({"operation": id}))).await?;
        ask::accepted(&reply)?;
        for it in wait::until(self.session, &self.database, Some(&mut self.line), &[id], wait::is_gone).await? {
            super::super::request::gone(&it)?;
        }
        report.done(started, "its name and root are gone; packs that the other one uses stay".into(), json!({"operation": id}))
    }

    /// Removes what nobody uses any more.
    pub(super) async fn sweep(&mut self, report: &mut Report) -> Result<(), Ended> {
        let before = self.used().await?;
        let started = report.begin("sweep the store");
        let made = self.make("sweep-store", json!({"store": "store"})).await?;
        let (packs, freed) = (number(&made, "packs"), before.saturating_sub(self.used().await?));
        let said = match packs {
            0 => "every pack has something that the other backup needs, so all stay".to_owned(),
            _ => format!("{packs} packs that nobody needs are removed, {} given back", human::bytes(freed)),
        };
        report.done(started, said, json!({"operation": made.id, "packs": packs, "freed": freed}))
    }

    /// Reads a backup whole.
    pub(super) async fn verify(&mut self, report: &mut Report, what: &str, id: OperationId) -> Result<(), Ended> {
        let started = report.begin(what);
        let made = self.make("verify-object", json!({"object": id})).await?;
        let [extents, packs, fetched] = ["extents", "packs", "fetched"].map(|name| number(&made, name));
        let said = format!("{extents} extents in {packs} packs, every digest checked over {}", human::bytes(fetched));
        report.done(started, said, json!({"operation": made.id, "extents": extents, "packs": packs, "fetched": fetched}))
    }

    /// Checks the histories of everything that was done.
    pub(super) async fn histories(&self, report: &mut Report) -> Result<(), Ended> {
        let started = report.begin("check the histories");
        let mut events = 0;
        for id in &self.operations {
            let wrong = audit::verify_history(self.database.read(), *id).await.map_err(Ended::Broken)?.unwrap_or_default();
            if !wrong.is_empty() {
                return Err(Ended::Found(format!("the history of {id} is wrong: {}", wrong.join("; "))));
            }
            events += audit::history(self.database.read(), *id, 0, 10_000).await.map_err(Ended::Broken)?.len();
        }
        let said = format!(
            "{} operations, {events} events: digests chained, and replaying them gives the states",
            self.operations.len()
        );
        report.done(started, said, json!({"operations": self.operations.len(), "events": events}))
    }

    /// Ends the engine.
    pub(super) async fn close(self) {
        self.line.close().await;
    }

    async fn make(&mut self, kind: &str, body: Value) -> Result<OperationView, Ended> {
        let reply = self.line.ask(self.session, &Command::request(kind, body)).await?;
        ask::accepted(&reply)?;
        let nothing = || Ended::Broken(anyhow::anyhow!("{kind} was accepted without an operation"));
        let id = reply.operation.ok_or_else(nothing)?;
        self.operations.push(id);
        let ended = wait::until(self.session, &self.database, Some(&mut self.line), &[id], wait::is_over).await?;
        let ended = ended.into_iter().next().ok_or_else(nothing)?;
        wait::good(&ended)?;
        Ok(ended)
    }

    async fn used(&self) -> Result<u64, Ended> {
        let places = audit::places(self.database.read(), "store").await.map_err(Ended::Broken)?;
        Ok(places.iter().map(|it| it.used).sum())
    }
}

fn number(operation: &OperationView, name: &str) -> u64 {
    operation.output.as_ref().and_then(|it| it.get(name)?.as_u64()).unwrap_or(0)
}

/// No grace: what nobody uses may go at once.
fn site_of(folder: &Path) -> Result<Site, longshore_schema::fault::Fault> {
    let path = folder.display();
    Site::parse(&format!(
        "[[zone]]\nname = \"here\"\nregion = \"here\"\n\
         [[pool]]\nname = \"pool\"\nzone = \"here\"\nhypervisor = \"kvm\"\nurl = \"file://{path}/pool\"\ncapacity = \"64 TiB\"\n\
         [[store]]\nname = \"store\"\nzone = \"here\"\nurl = \"file://{path}/store\"\ncapacity = \"64 TiB\"\ngrace_s = 0\n"
    ))
}
