//! `longshore abandon ID`: gives the undo of an operation up. What may remain is written down, and stays booked.

use super::request::{self, About, Request};
use crate::{ended::Ended, session::Session, wait};
use clap::Args;
use serde_json::json;

/// `abandon`
#[derive(Debug, Args)]
pub(crate) struct Abandon {
    #[command(flatten)]
    about: About,
    /// Why; kept in the history.
    #[arg(long)]
    reason: String,
}

impl Abandon {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let body = json!({"operation": self.about.operation, "reason": self.reason});
        request::send(
            session,
            self.about,
            Request { kind: "abandon", body, over: wait::is_gone, enough: wait::is_gone, good: request::gone },
        )
        .await
    }
}
