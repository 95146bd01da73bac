//! How a command reaches an engine: over the broker, over the socket of the embedded engine that runs, or in
//! this very process if none does.

use crate::{
    embedded::{self, Embedded},
    ended::Ended,
    presence,
    session::Session,
    settings::Broker,
};
use anyhow::{Context, anyhow};
use longshore_courier::{Courier, Parcel, Properties, Queue, Unsent, socket};
use longshore_engine::{config::Config, database::Database};
use longshore_schema::{
    fault::{Fault, code},
    wire::{Reply, names},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// How long the engine may take to answer one command.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// After how long a person is told what is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// How long an engine that holds the lock may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Command {
    /// As in the contract.
    pub(crate) kind: String,
    /// The idempotency key.
    pub(crate) message_id: String,
    /// 0 to 9.
    pub(crate) priority: Option<u8>,
    /// Whom the user acts for.
    pub(crate) tenant: Option<String>,
    /// The body.
    pub(crate) body: Value,
}

impl Command {
    /// A request about one operation.
    pub(crate) fn request(kind: &str, body: Value) -> Command {
        let message_id = uuid::Uuid::now_v7().to_string();
        Command { kind: kind.into(), message_id, priority: None, tenant: None, body }
    }
}

/// A way to an engine.
pub(crate) enum Line {
    /// RabbitMQ.
    Broker {
        /// The connection.
        courier: Arc<dyn Courier>,
        /// Whose.
        user: String,
        /// Nobody is told what is waited for: a program reads the output.
        quiet: bool,
    },
    /// The embedded engine of another process.
    Socket(PathBuf),
    /// An engine in this process.
    Here(Box<Embedded>),
}

impl Line {
    /// Finds an engine, or starts one here.
    pub(crate) async fn open(session: &Session) -> Result<Line, Ended> {
        if let Broker::Amqp(url) = &session.settings.broker {
            let courier = longshore_courier::open(url, "longshore command").await.map_err(Ended::Unreachable)?;
            return Ok(Line::Broker { courier, user: user_of(url), quiet: session.out.json });
        }
        let path = session.settings.socket().ok_or_else(no_embedded_on_a_server)?;
        let patience = tokio::time::Instant::now() + START_LIMIT;
        loop {
            if tokio::net::UnixStream::connect(&path).await.is_ok() {
                return Ok(Line::Socket(path));
            }
            match here(session, &path).await? {
                Some(embedded) => return Ok(Line::Here(Box::new(embedded))),
                // It holds the lock and doesn't listen yet, or not any more.
                None if tokio::time::Instant::now() < patience => tokio::time::sleep(Duration::from_millis(50)).await,
                None => {
                    let why = anyhow!("an engine holds the database's lock, but doesn't listen on {}", path.display());
                    return Err(Ended::Unreachable(why));
                }
            }
        }
    }

    /// Whether the operation goes on only as long as this process.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Line::Here(_))
    }

    /// Sends a command and waits for the answer, whatever it is.
    pub(crate) async fn ask(&self, session: &Session, command: &Command) -> Result<Reply, Ended> {
        let told = async {
            tokio::time::sleep(TOLD_AFTER).await;
            if let Some(full) = presence::no_room(session) {
                session.out.notice(&full);
            }
            std::future::pending().await
        };
        let answered = tokio::select! {
            answered = self.send(command) => answered,
            never = told => never,
        };
        // Whatever else it looks like: who has no answer should know this first.
        answered.map_err(|ended| match (ended, presence::no_room(session)) {
            (Ended::Unreachable(error), Some(full)) => Ended::Unreachable(error.context(full)),
            (ended, _) => ended,
        })
    }

    async fn send(&self, command: &Command) -> Result<Reply, Ended> {
        match self {
            Line::Broker { courier, user, quiet } => over_courier(courier.as_ref(), user, command, *quiet).await,
            Line::Here(embedded) => over_courier(embedded.courier().as_ref(), names::LOCAL_USER, command, true).await,
            Line::Socket(path) => {
                let command = socket::Command {
                    kind: command.kind.clone(),
                    message_id: command.message_id.clone(),
                    correlation_id: None,
                    priority: command.priority,
                    tenant: command.tenant.clone(),
                    body: command.body.clone(),
                };
                socket::request(path, &command).await.map_err(|error| may_be_taken(&command.message_id, error))
            }
        }
    }

    /// If the engine of another process is gone, and nobody else took over, takes over.
    pub(crate) async fn keep(&mut self, session: &Session) -> Result<(), Ended> {
        let Line::Socket(path) = self else { return Ok(()) };
        if tokio::net::UnixStream::connect(&*path).await.is_err()
            && let Some(embedded) = here(session, path).await?
        {
            *self = Line::Here(Box::new(embedded));
        }
        Ok(())
    }

    /// Ends the connection, or the engine that runs here.
    pub(crate) async fn close(self) {
        match self {
            Line::Broker { courier, .. } => courier.close().await,
            Line::Here(embedded) => embedded.stop().await,
            Line::Socket(_) => (),
        }
    }
}

/// `embedded` with PostgreSQL has no place for the socket and the lock.
pub(crate) fn no_embedded_on_a_server() -> Ended {
    Ended::usage("the embedded broker works with SQLite; with PostgreSQL set LONGSHORE_BROKER to amqp://…")
}

/// Takes the database's lock and starts an engine; `None` if somebody else has the lock.
async fn here(session: &Session, socket: &std::path::Path) -> Result<Option<Embedded>, Ended> {
    let database = session.database().await?;
    let Some(lock) = lock(&database)? else { return Ok(None) };
    let options = embedded::Options {
        socket: socket.to_owned(),
        host: session.settings.file.host.clone().unwrap_or_else(embedded::host_name),
        concurrency: 2,
        config: Config::default(),
    };
    Embedded::start(&database, lock, options).await.map(Some).map_err(Ended::Broken)
}

/// The lock of an embedded database; `None` if somebody else has it.
pub(crate) fn lock(database: &Database) -> Result<Option<Arc<std::fs::File>>, Ended> {
    match database.lock() {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(no_embedded_on_a_server()),
        Err(error) if error.to_string().contains("is locked") => Ok(None),
        Err(error) => Err(Ended::Unreachable(error)),
    }
}

async fn over_courier(courier: &dyn Courier, user: &str, command: &Command, quiet: bool) -> Result<Reply, Ended> {
    let reply_to = format!("longshore.replies.{}", uuid::Uuid::now_v7());
    let own = Queue::Own { name: reply_to.clone(), exchange: String::new(), routing_keys: vec![] };
    courier.declare(&[own]).await.context("declare a queue for the reply").map_err(Ended::Unreachable)?;
    let mut inbox = courier.consume(&reply_to, 1).await.context("listen for the reply").map_err(Ended::Unreachable)?;
    let body = serde_json::to_vec(&command.body).map_err(|error| Ended::Broken(error.into()))?;
    let properties = Properties {
        message_id: Some(command.message_id.clone()),
        reply_to: Some(reply_to),
        correlation_id: Some(command.message_id.clone()),
        user_id: Some(user.to_owned()),
        priority: command.priority,
        expiration_ms: None,
        persistent: true,
        headers: command.tenant.iter().map(|tenant| ("tenant".to_owned(), tenant.clone())).collect::<BTreeMap<_, _>>(),
    };
    let (exchange, routing_key) = (names::COMMANDS.to_owned(), command.kind.clone());
    let parcel = Parcel { exchange, routing_key, mandatory: true, properties, body: body.into() };
    match courier.publish(vec![parcel]).await.pop() {
        Some(Ok(())) => (),
        Some(Err(Unsent::Unroutable { .. })) => {
            return Err(Ended::Unreachable(anyhow!("no engine has run on this broker yet: start `longshore engine`")));
        }
        Some(Err(unsent @ Unsent::Unconfirmed(_))) => return Err(may_be_taken(&command.message_id, unsent.into())),
        None => return Err(may_be_taken(&command.message_id, anyhow!("the courier said nothing of the command"))),
    }
    let answer = async {
        while let Some(delivery) = inbox.next().await {
            let reply = serde_json::from_slice(&delivery.parcel.body).context("read the reply");
            let ours = delivery.parcel.properties.correlation_id.as_ref() == Some(&command.message_id);
            delivery.receipt.ack();
            if ours {
                return reply;
            }
        }
        Err(anyhow!("the connection was closed"))
    };
    let told = async {
        tokio::time::sleep(TOLD_AFTER).await;
        if !quiet {
            let left = (REPLY_LIMIT - TOLD_AFTER).as_secs();
            eprintln!("waiting for an engine to answer, for {left} s more; the command is in the broker's queue");
        }
        std::future::pending().await
    };
    let answer = async {
        tokio::select! {
            reply = answer => reply,
            never = told => never,
        }
    };
    match tokio::time::timeout(REPLY_LIMIT, answer).await {
        Ok(reply) => reply.map_err(|error| may_be_taken(&command.message_id, error)),
        Err(_) => {
            let why = anyhow!("no engine answered within {} s; is one running?", REPLY_LIMIT.as_secs());
            Err(may_be_taken(&command.message_id, why))
        }
    }
}

fn may_be_taken(message_id: &str, error: anyhow::Error) -> Ended {
    Ended::Unreachable(error.context(format!(
        "send the command (it may have been taken, or still be: the same command with --message-id {message_id} gets the same answer)"
    )))
}

/// The reply, if the command was accepted; else the refusal.
pub(crate) fn accepted(reply: &Reply) -> Result<(), Ended> {
    if reply.accepted {
        return Ok(());
    }
    let unsaid = || Fault::permanent(code::INTERNAL, "the engine refused the command without saying why");
    Err(Ended::Refused(reply.fault.clone().unwrap_or_else(unsaid)))
}

/// The user in an address of the broker: the broker checks that a message names no other.
fn user_of(url: &str) -> String {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("guest", |(user, _)| user.split(':').next().unwrap_or_default());
    decoded(user)
}

/// Percent-encoding, RFC 3986 section 2.1. What isn't a code stays.
fn decoded(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|it| std::str::from_utf8(it).ok());
        match code.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_an_address_is_found_and_decoded() {
        for (url, user) in [
            ("amqp://host", "guest"),
            ("amqp://cloud1:p%40ss@host:5672/%2f", "cloud1"),
            ("amqps://a%20b@host", "a b"),
            ("amqp://u%zz:p@h?x=a@b", "u%zz"),
        ] {
            assert_eq!(user_of(url), user, "{url}");
        }
    }
}
