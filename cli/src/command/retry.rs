//! `longshore retry ID`: doesn't wait for the next attempt of a step that rests; tries now.

use super::request::{self, About, Request};
use crate::{ended::Ended, session::Session, wait};
use clap::Args;
use serde_json::json;

/// `retry`
#[derive(Debug, Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    about: About,
}

impl Retry {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let body = json!({"operation": self.about.operation});
        request::send(
            session,
            self.about,
            Request { kind: "retry", body, over: wait::is_over, enough: wait::is_over, good: wait::good },
        )
        .await
    }
}
