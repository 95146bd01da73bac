//! `longshore stores`: stores with the space that is booked and left.

use crate::{
    ended::Ended,
    print::{human, table},
    session::Session,
};
use clap::Args;
use longshore_engine::audit::{self, PlaceView};

/// `stores`
#[derive(Debug, Args)]
pub(crate) struct Stores {
    /// Pools too.
    #[arg(long)]
    pools: bool,
}

impl Stores {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let database = session.reading().await?;
        let mut found = audit::places(database.read(), "store").await.map_err(Ended::Unreachable)?;
        if self.pools {
            found.extend(audit::places(database.read(), "pool").await.map_err(Ended::Unreachable)?);
        }
        session.out.list(&found, text)
    }
}

fn text(places: &[PlaceView]) -> String {
    if places.is_empty() {
        return "no stores; declare them in a site file: longshore site apply site.toml".into();
    }
    let mut rows = table::new(&["name", "role", "serves", "url", "used", "reserved", "free", "of", "waiting"]);
    for it in places {
        let serves = match (&it.zone, &it.region) {
            (Some(zone), _) => format!("zone {zone}"),
            (None, Some(region)) => format!("region {region}"),
            (None, None) => String::new(),
        };
        let free = it.limit.saturating_sub(it.used).saturating_sub(it.reserved);
        rows.add_row([
            table::cell(&it.name),
            table::cell(&it.role),
            table::cell(serves),
            table::cell(&it.url),
            table::right(human::bytes(it.used)),
            table::right(human::bytes(it.reserved)),
            table::right(human::bytes(free)),
            table::right(human::bytes(it.limit)),
            table::right(it.waiting),
        ]);
    }
    table::text(rows, &[3])
}
