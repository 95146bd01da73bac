//! `longshore submit KIND`: asks for an operation. When no engine runs, it is done in this process.

use super::kind::Kind;
use crate::{
    ask::{self, Command, Line},
    ended::Ended,
    print,
    session::{self, Session},
    wait,
};
use clap::Args;
use longshore_engine::audit::OperationView;
use longshore_schema::{ids::OperationId, wire::Reply};

/// `submit`
#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// What to do.
    #[command(subcommand)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    how: How,
}

/// How a command is sent.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Wait for the operation's end; always so when no engine runs.
    #[arg(long, global = true)]
    wait: bool,
    /// The idempotency key: the same id with the same body gets the same answer for ever.
    #[arg(long, global = true, value_name = "ID")]
    message_id: Option<String>,
    /// 0 to 9; higher ones go first.
    #[arg(long, global = true, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Whom you act for.
    #[arg(long, global = true)]
    tenant: Option<String>,
}

impl Submit {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let body = self.kind.body()?;
        let message_id = self.how.message_id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let (priority, tenant) = (self.how.priority, self.how.tenant);
        let command = Command { kind: self.kind.name().into(), message_id, priority, tenant, body };
        make(session, &command, self.how.wait, print::operation::one).await
    }
}

/// Sends the command for an operation, and waits for its end if asked to, or if it ends with this process.
pub(crate) async fn make(
    session: &Session,
    command: &Command,
    wait: bool,
    people: fn(&OperationView, longshore_schema::time::Timestamp) -> String,
) -> Result<(), Ended> {
    let mut line = Line::open(session).await?;
    let done = make_over(session, &mut line, command, wait, people).await;
    line.close().await;
    done
}

async fn make_over(
    session: &Session,
    line: &mut Line,
    command: &Command,
    wait: bool,
    people: fn(&OperationView, longshore_schema::time::Timestamp) -> String,
) -> Result<(), Ended> {
    let reply = line.ask(session, command).await?;
    let (Ok(()), Some(id)) = (ask::accepted(&reply), reply.operation) else {
        if session.out.json {
            session.out.json(&reply)?;
        }
        return ask::accepted(&reply);
    };
    if !wait && !line.is_here() {
        return session.out.one(&reply, |it| accepted(id, it));
    }
    let database = session.reading().await?;
    let ended = wait::until(session, &database, Some(line), &[id], wait::is_over).await?;
    let now = session::now(&database).await?;
    for it in &ended {
        session.out.one(it, |it| people(it, now))?;
        wait::good(it)?;
    }
    Ok(())
}

fn accepted(id: OperationId, reply: &Reply) -> String {
    let duplicate = if reply.duplicate { " (the same command as before)" } else { "" };
    let state = reply.state.as_deref().unwrap_or("accepted");
    let waiting = reply.waiting_for.as_ref().map(|it| format!(", waits: {it}")).unwrap_or_default();
    format!("{id}\n{state}{waiting}{duplicate}; follow it with: longshore watch {id}")
}
