//! `longshore verify ID`: reads every byte of an object back and checks every digest. It waits for the answer.

use super::submit;
use crate::{ask::Command, ended::Ended, print::human, session::Session};
use clap::Args;
use longshore_engine::audit::OperationView;
use longshore_schema::{ids::OperationId, time::Timestamp};
use serde_json::json;

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The object: its operation's id.
    #[arg(value_name = "ID")]
    object: OperationId,
    /// Whom you act for.
    #[arg(long)]
    tenant: Option<String>,
}

impl Verify {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let mut command = Command::request("verify-object", json!({"object": self.object}));
        command.tenant = self.tenant;
        submit::make(session, &command, true, said).await
    }
}

fn said(it: &OperationView, _: Timestamp) -> String {
    let number = |name: &str| it.output.as_ref().and_then(|output| output.get(name)?.as_u64()).unwrap_or(0);
    match it.state.as_str() {
        "ready" => {
            let (extents, bytes) = (number("extents"), human::bytes(number("fetched")));
            format!("every byte is there: {extents} extents, {bytes} read from {} packs (operation {})", number("packs"), it.id)
        }
        state => format!("verification {} is {state}", it.id),
    }
}
