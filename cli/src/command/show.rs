//! `longshore show ID`: one operation with all that is known about it.

use crate::{
    ended::Ended,
    print,
    session::{self, Session},
};
use clap::Args;
use longshore_schema::ids::OperationId;

/// `show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The operation's id.
    #[arg(value_name = "ID")]
    operation: OperationId,
}

impl Show {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let database = session.reading().await?;
        let found = session.operation(&database, self.operation).await?;
        let now = session::now(&database).await?;
        session.out.one(&found, |it| print::operation::one(it, now))
    }
}
