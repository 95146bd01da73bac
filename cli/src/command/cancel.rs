//! `longshore cancel ID`: stops an operation that isn't past the point of no return, and undoes it.

use super::request::{self, About, Request};
use crate::{ended::Ended, session::Session, wait};
use clap::Args;
use serde_json::json;

/// `cancel`
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    about: About,
}

impl Cancel {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let body = json!({"operation": self.about.operation});
        request::send(
            session,
            self.about,
            Request { kind: "cancel", body, over: wait::is_gone, enough: wait::is_gone, good: request::gone },
        )
        .await
    }
}
