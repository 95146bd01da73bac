//! `longshore list`: operations, the newest first, page by page.

use crate::{
    ended::Ended,
    print,
    session::{self, Session},
};
use clap::Args;
use longshore_engine::audit::{self, Filter};
use longshore_schema::ids::OperationId;

/// `list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only in this state.
    #[arg(long, value_parser = ["allocated", "copying", "ready", "destroying", "destroyed", "failed"])]
    state: Option<String>,
    /// Only of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only of this zone.
    #[arg(long)]
    zone: Option<String>,
    /// Only of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only older than this one.
    #[arg(long, value_name = "ID")]
    after: Option<OperationId>,
    /// At most so many, 1 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let database = session.reading().await?;
        let List { state, kind, zone, tenant, after, limit } = self;
        let filter = Filter { state, kind, zone, tenant, after, limit: Some(limit) };
        let found = audit::list(database.read(), &filter).await.map_err(Ended::Unreachable)?;
        let now = session::now(&database).await?;
        session.out.list(&found, |found| print::operation::many(found, now))?;
        if let Some(last) = found.last()
            && found.len() as u64 == limit
            && !session.out.json
        {
            eprintln!("there may be more: longshore list --after {}", last.id);
        }
        Ok(())
    }
}
