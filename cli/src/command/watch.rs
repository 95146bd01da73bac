//! `longshore watch ID…`: until all of them are over. The exit code tells the end of the worst.

use crate::{
    ended::Ended,
    print,
    session::{self, Session},
    settings::Broker,
    wait,
};
use clap::Args;
use longshore_schema::ids::OperationId;

/// `watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Operations' ids.
    #[arg(value_name = "ID", required = true)]
    operations: Vec<OperationId>,
}

impl Watch {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let database = session.reading().await?;
        if session.settings.broker == Broker::Embedded
            && let Some(socket) = session.settings.socket()
            && tokio::net::UnixStream::connect(&socket).await.is_err()
        {
            eprintln!("no engine runs on this database: what isn't over goes on when one does (longshore engine)");
        }
        let ended = wait::until(session, &database, None, &self.operations, wait::is_over).await?;
        let now = session::now(&database).await?;
        session.out.list(&ended, |ended| print::operation::many(ended, now))?;
        ended.iter().try_for_each(wait::good)
    }
}
