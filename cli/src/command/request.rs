//! What cancel, destroy, retry and abandon have in common: a request about one operation, and, when it is done
//! in this process or `--wait` is given, its end.

use crate::{
    ask::{self, Command, Line},
    ended::Ended,
    session::Session,
    wait,
};
use clap::Args;
use longshore_engine::audit::OperationView;
use longshore_schema::ids::OperationId;
use serde_json::Value;

/// Which operation, and whether to wait.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// The operation's id.
    #[arg(value_name = "ID")]
    pub(crate) operation: OperationId,
    /// Wait until it is done; without, and when no engine runs, only as long as it needs this process.
    #[arg(long)]
    wait: bool,
    /// The idempotency key.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Whom you act for.
    #[arg(long)]
    tenant: Option<String>,
}

/// A request's kind and end.
pub(crate) struct Request {
    /// As in the contract.
    pub(crate) kind: &'static str,
    /// Its body.
    pub(crate) body: Value,
    /// Whether it is done, for who waits.
    pub(crate) over: fn(&OperationView) -> bool,
    /// Whether it needs this process no more, for who doesn't.
    pub(crate) enough: fn(&OperationView) -> bool,
    /// Whether what was asked for came true.
    pub(crate) good: fn(&OperationView) -> Result<(), Ended>,
}

/// Sends a request.
pub(crate) async fn send(session: &Session, about: About, request: Request) -> Result<(), Ended> {
    let mut line = Line::open(session).await?;
    let done = send_over(session, &mut line, about, request).await;
    line.close().await;
    done
}

async fn send_over(session: &Session, line: &mut Line, about: About, request: Request) -> Result<(), Ended> {
    let mut command = Command::request(request.kind, request.body);
    command.message_id = about.message_id.unwrap_or(command.message_id);
    command.tenant = about.tenant;
    let reply = line.ask(session, &command).await?;
    if !reply.accepted || !(about.wait || line.is_here()) {
        let state = reply.state.clone().unwrap_or_else(|| "taken".into());
        if session.out.json {
            session.out.json(&reply)?;
        } else if reply.accepted {
            session.out.text(format!("{} accepted; operation {} is {state}", request.kind, about.operation))?;
        }
        return ask::accepted(&reply);
    }
    let database = session.reading().await?;
    let over = if about.wait { request.over } else { request.enough };
    for it in wait::until(session, &database, Some(line), &[about.operation], over).await? {
        session.out.one(&it, |it| format!("operation {} is {}{}", it.id, it.state, because(it)))?;
        (request.good)(&it)?;
    }
    Ok(())
}

fn because(it: &OperationView) -> String {
    if it.destroy_requested && !it.holders.is_empty() {
        let holders: Vec<_> = it.holders.iter().map(ToString::to_string).collect();
        return format!("; it is destroyed once it isn't held any more by {}", holders.join(", "));
    }
    it.fault.as_ref().map(|fault| format!(" ({})", fault.code)).unwrap_or_default()
}

/// An operation that was to go away: how it went doesn't matter.
pub(crate) fn gone(it: &OperationView) -> Result<(), Ended> {
    match it.needs_attention {
        false => Ok(()),
        true => Err(Ended::Failed {
            operation: it.id,
            state: format!("{} and needs attention", it.state),
            fault: it.progress.as_ref().and_then(|it| it.last_fault.clone()).or_else(|| it.fault.clone()),
        }),
    }
}
