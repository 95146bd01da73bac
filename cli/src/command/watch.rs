//! `longshore watch ID…`: until all of them are over. The exit code tells the end of the worst.

use crate::{
    ended::Ended,
    print,
    session::{self, Session},
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
        let ended = wait::until(session, &database, None, &self.operations, wait::is_over).await?;
        let now = session::now(&database).await?;
        session.out.list(&ended, |ended| print::operation::many(ended, now))?;
        ended.iter().try_for_each(wait::good)
    }
}
