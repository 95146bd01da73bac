//! `longshore site`: applies a site file, after showing what it would change, and shows the site that is.

mod difference;
mod found;

use crate::{
    ended::Ended,
    print::{human, table},
    session::Session,
    settings::Broker,
};
use clap::{Args, Subcommand};
use longshore_engine::{
    audit,
    database::{Database, Failed},
    site::{self, Change, Known},
};
use longshore_schema::{
    fault::{Fault, code},
    site::Site as SiteFile,
};
use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
};

/// `site`
#[derive(Debug, Subcommand)]
pub(crate) enum Site {
    /// Make the site what a file says: shows the difference, asks, tries out stores, and does it at once or not at all.
    Apply(Apply),
    /// Show the site.
    Show(Show),
}

/// `site apply`
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The site file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    /// Make the folder of a local store that isn't there, if the folder above it is.
    #[arg(long)]
    create: bool,
}

/// `site show`
#[derive(Debug, Args)]
pub(crate) struct Show {}

impl Site {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        match self {
            Site::Apply(command) => command.run(session).await,
            Site::Show(Show {}) => show(session).await,
        }
    }
}

impl Apply {
    async fn run(self, session: &Session) -> Result<(), Ended> {
        let text = std::fs::read_to_string(&self.file);
        let text = text.map_err(|error| Ended::usage(format!("read {}: {error}", self.file.display())))?;
        let wanted = SiteFile::parse(&text).map_err(Ended::Refused)?;
        let database = session.database().await?;
        let known = read(&database).await?;
        let changes = site::difference(&known, &wanted).map_err(Ended::Refused)?;
        if !session.out.json {
            session.out.text(difference::text(&changes))?;
        }
        site::check(&changes).map_err(Ended::Refused)?;
        check_zones(session, &wanted)?;
        found::warn_of_links(&wanted);
        warn_of_full(&database, &wanted).await?;
        if !changes.is_empty() {
            self.confirm()?;
            apply(&database, &known, &wanted, &changes, self.create).await?;
            if !session.out.json {
                session.out.text("applied")?;
            }
        }
        if session.out.json { session.out.list(&changes, |_| String::new()) } else { Ok(()) }
    }

    fn confirm(&self) -> Result<(), Ended> {
        if self.yes {
            return Ok(());
        }
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(Ended::usage("nothing was changed: without a terminal to ask on, say --yes"));
        }
        eprint!("apply? [y/N] ");
        let mut answer = String::new();
        let asked = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut answer));
        asked.map_err(|error| Ended::Broken(error.into()))?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Ended::usage("nothing was changed")),
        }
    }
}

/// Folders of the same name in distinct zones are distinct folders, unless one process serves all zones.
fn check_zones(session: &Session, wanted: &SiteFile) -> Result<(), Ended> {
    for overlap in wanted.overlaps() {
        match session.settings.broker {
            Broker::Embedded => return Err(Ended::Refused(Fault::permanent(code::SITE_INVALID, overlap.to_string()))),
            _ => eprintln!("unless hosts of their zones see other folders there, {overlap}"),
        }
    }
    Ok(())
}

/// Says which places have more in them than they may hold by the new file.
async fn warn_of_full(database: &Database, wanted: &SiteFile) -> Result<(), Ended> {
    let stores = wanted.stores.iter().map(|it| ("store", &it.name, it.capacity.0, it.overcommit, it.threshold));
    let pools = wanted.pools.iter().map(|it| ("pool", &it.name, it.capacity.0, it.overcommit, it.threshold));
    for (role, name, capacity, overcommit, threshold) in stores.chain(pools) {
        let limit = (capacity as f64 * overcommit * threshold) as u64;
        let places = audit::places(database.read(), role).await.map_err(Ended::Broken)?;
        let held = places.iter().find(|it| it.name == *name).map_or(0, |it| it.used + it.reserved);
        if held > limit {
            let (held, limit) = (human::bytes(held), human::bytes(limit));
            eprintln!("{role} {name}: {held} are used or reserved already, and it may hold {limit}: nothing more will fit");
        }
    }
    Ok(())
}

/// Founds the stores that are new or changed, and writes the site in one transaction.
pub(crate) async fn apply(
    database: &Database,
    known: &Known,
    wanted: &SiteFile,
    changes: &[Change],
    create: bool,
) -> Result<(), Ended> {
    let mut settled = site::settled(known, wanted);
    let touched = |name: &str| changes.iter().any(|it| it.what == "store" && it.name == name);
    for (store, asked) in settled.stores.iter_mut().zip(&wanted.stores).filter(|(it, _)| touched(&it.name)) {
        found::found(store, asked, known.incarnation, create).await.map_err(Ended::Refused)?;
    }
    for pool in wanted.pools.iter().filter(|it| changes.iter().any(|change| change.what == "pool" && change.name == it.name)) {
        found::warn_of_pool(pool).await;
    }
    match site::apply(database, known, &settled).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(fault)) => Err(Ended::Refused(fault)),
        Err(Failed::Conflict(_)) => {
            Err(Ended::Found("nothing was changed: the site changed meanwhile; run it again to see the difference now".into()))
        }
        Err(Failed::Database(error)) => Err(Ended::unreachable(error)),
        Err(Failed::Internal(error)) => Err(Ended::Broken(error)),
    }
}

/// The site in the database.
pub(crate) async fn read(database: &Database) -> Result<Known, Ended> {
    site::read(database.read()).await.map_err(|failed| match failed {
        Failed::Internal(error) => Ended::Broken(error),
        other => Ended::unreachable(other),
    })
}

async fn show(session: &Session) -> Result<(), Ended> {
    let database = session.reading().await?;
    let known = read(&database).await?;
    session.out.one(&known.site, text)
}

fn text(site: &SiteFile) -> String {
    if *site == SiteFile::default() {
        return "the site is empty; make it with: longshore site apply site.toml".into();
    }
    let mut rows = table::new(&["what", "name", "where", "url", "capacity", "limits"]);
    for zone in &site.zones {
        rows.add_row(["zone", &zone.name, &format!("region {}", zone.region), "", "", ""].map(table::cell));
    }
    let limits = |overcommit: f64, threshold: f64| format!("{} % of {overcommit}x", (threshold * 100.0).round());
    for it in &site.stores {
        let near = it
            .zone
            .as_ref()
            .map_or_else(|| format!("region {}", it.region.as_deref().unwrap_or("?")), |zone| format!("zone {zone}"));
        let extents = it.extent_size.map(|size| format!(", extents of {size}")).unwrap_or_default();
        rows.add_row([
            table::cell("store"),
            table::cell(&it.name),
            table::cell(near),
            table::cell(&it.url),
            table::right(human::bytes(it.capacity.0)),
            table::cell(format!("{}{extents}", limits(it.overcommit, it.threshold))),
        ]);
    }
    for it in &site.pools {
        rows.add_row([
            table::cell(format!("{} pool", it.hypervisor.as_str())),
            table::cell(&it.name),
            table::cell(format!("zone {}", it.zone)),
            table::cell(&it.url),
            table::right(human::bytes(it.capacity.0)),
            table::cell(limits(it.overcommit, it.threshold)),
        ]);
    }
    for user in &site.users {
        rows.add_row(["user", &user.name, &format!("tenants {}", user.tenants.join(", ")), "", "", ""].map(table::cell));
    }
    table::text(rows, &[2, 3])
}

#[cfg(test)]
mod tests;
