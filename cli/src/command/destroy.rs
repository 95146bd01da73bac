//! `longshore destroy ID`: removes what an operation made; recorded while somebody holds it.

use super::request::{self, About, Request};
use crate::{ended::Ended, session::Session, wait};
use clap::Args;
use serde_json::json;

/// `destroy`
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    about: About,
}

impl Destroy {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let body = json!({"operation": self.about.operation});
        request::send(
            session,
            self.about,
            Request { kind: "destroy", body, over: wait::is_gone, enough: wait::is_gone_or_held, good: request::gone },
        )
        .await
    }
}
