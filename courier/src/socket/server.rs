//! Takes commands from the socket, publishes them as a control plane would, and hands back the engine's replies.

use super::{
    Command, LINE_LIMIT,
    file::SocketFile,
    frame::{self, Frame},
};
use crate::{Courier, Inbox, Parcel, Properties, Queue, Unsent};
use anyhow::Context;
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    wire::{Reply, names},
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the engine may take to answer one command.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// How often a command is sent that isn't confirmed. Its message id makes the same answer of all.
const TRIES: usize = 5;

/// Replies that are out in the queue at once.
const PREFETCH: u16 = 64;

/// Everything that the connections share.
struct Server {
    courier: Arc<dyn Courier>,
    /// The queue of the replies.
    reply_to: String,
    /// By correlation id.
    waiting: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
    uid: u32,
}

/// Serves the socket at `path` until `stop`; the file is removed then. An error if another engine listens
/// there; what a dead one left is replaced.
pub async fn serve(path: &Path, courier: Arc<dyn Courier>, stop: CancellationToken) -> anyhow::Result<()> {
    let reply_to = format!("longshore.replies.{}", uuid::Uuid::now_v7());
    let queue = Queue::Own { name: reply_to.clone(), exchange: String::new(), routing_keys: vec![] };
    courier.declare(&[queue]).await.context("declare the queue of replies")?;
    let inbox = courier.consume(&reply_to, PREFETCH).await?;
    let file = SocketFile::bind(path).await?;
    let server = Arc::new(Server { courier, reply_to, waiting: Mutex::default(), uid: file.uid });
    let connections = TaskTracker::new();
    let _ends_connections = stop.clone().drop_guard();
    let accepting = async {
        loop {
            match file.listener.accept().await {
                Ok((stream, _)) => {
                    let (server, stop) = (server.clone(), stop.clone());
                    connections.spawn(async move { stop.run_until_cancelled(server.connection(stream)).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = server.replies(inbox) => {}
        () = stop.cancelled() => {}
    }
    stop.cancel();
    connections.close();
    connections.wait().await;
    Ok(())
}

impl Server {
    async fn connection(&self, mut stream: UnixStream) {
        // The file's mode says the same; a file can be handed on, a peer's user can't.
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.uid || peer.uid() == 0 => {}
            Ok(peer) => return tracing::warn!(uid = peer.uid(), "refused another user on the socket"),
            Err(error) => return tracing::warn!(%error, "can't tell who is on the socket"),
        }
        let (from, mut to) = stream.split();
        let mut from = BufReader::new(from);
        loop {
            let reply = match frame::read(&mut from).await {
                Ok(Frame::Line(line)) => self.request(&line).await.unwrap_or_else(refused),
                Ok(Frame::TooLong) => {
                    let fault = Fault::permanent(code::COMMAND_TOO_LARGE, format!("a command has at most {LINE_LIMIT} bytes"));
                    refused(fault)
                }
                Ok(Frame::End) => return,
                Err(error) => return tracing::debug!(%error, "a client left the socket"),
            };
            let sent = match serde_json::to_vec(&reply) {
                Ok(mut line) => {
                    line.push(b'\n');
                    to.write_all(&line).await
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = sent {
                return tracing::debug!(%error, "a client left the socket before its reply");
            }
        }
    }

    /// One command's way to the engine and back.
    async fn request(&self, line: &[u8]) -> Result<Reply, Fault> {
        let command = parse(line)?;
        let correlation_id = uuid::Uuid::now_v7().to_string();
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(correlation_id.clone(), answer);
        let _forgotten = Forget { server: self, correlation_id: &correlation_id };
        self.publish(self.parcel(command, &correlation_id)?).await?;
        match tokio::time::timeout(REPLY_LIMIT, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(Fault::transient(
                code::INTERNAL,
                "the engine didn't answer in time; it may have taken the command: ask again with the same message id",
            )),
        }
    }

    fn parcel(&self, command: Command, correlation_id: &str) -> Result<Parcel, Fault> {
        let body = serde_json::to_vec(&command.body).map_err(|error| malformed(error.to_string()))?;
        let properties = Properties {
            message_id: Some(command.message_id),
            reply_to: Some(self.reply_to.clone()),
            correlation_id: Some(correlation_id.into()),
            user_id: Some(names::LOCAL_USER.into()),
            priority: command.priority,
            expiration_ms: None,
            persistent: true,
            headers: command.tenant.map(|tenant| BTreeMap::from([("tenant".into(), tenant)])).unwrap_or_default(),
        };
        let (exchange, routing_key) = (names::COMMANDS.into(), command.kind);
        Ok(Parcel { exchange, routing_key, mandatory: true, properties, body: Bytes::from(body) })
    }

    async fn publish(&self, parcel: Parcel) -> Result<(), Fault> {
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.courier.publish(vec![parcel.clone()]).await.pop() {
                Some(Ok(())) => return Ok(()),
                Some(Err(unroutable @ Unsent::Unroutable { .. })) => {
                    return Err(Fault::transient(code::INTERNAL, format!("no engine takes commands: {unroutable}")));
                }
                Some(Err(unconfirmed @ Unsent::Unconfirmed(_))) => why = unconfirmed.to_string(),
                None => why = "no answer for it".into(),
            }
        }
        Err(Fault::transient(code::INTERNAL, format!("the command may not have reached the engine: {why}")))
    }

    /// Hands each reply to the connection that waits for it.
    async fn replies(&self, mut inbox: Box<dyn Inbox>) {
        while let Some(delivery) = inbox.next().await {
            let waiting = delivery.parcel.properties.correlation_id.as_ref().and_then(|id| self.waiting().remove(id));
            match (waiting, serde_json::from_slice(&delivery.parcel.body)) {
                // The client may have left.
                (Some(answer), Ok(reply)) => drop(answer.send(reply)),
                (Some(_), Err(error)) => tracing::error!(%error, "the engine's reply can't be read"),
                (None, _) => tracing::debug!("a reply that nobody waits for"),
            }
            delivery.receipt.ack();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Reply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a request that ends, by whatever way.
struct Forget<'a> {
    server: &'a Server,
    correlation_id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.server.waiting().remove(self.correlation_id);
    }
}

fn parse(line: &[u8]) -> Result<Command, Fault> {
    let command: Command = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    if !(1..=128).contains(&command.message_id.chars().count()) {
        return Err(malformed("message_id must have 1 to 128 characters"));
    }
    if command.kind.is_empty() || command.kind.len() > 128 {
        return Err(malformed("kind must have 1 to 128 bytes"));
    }
    if command.priority.is_some_and(|priority| priority > 9) {
        return Err(malformed("priority must be 0 to 9"));
    }
    Ok(command)
}

fn malformed(why: impl Into<String>) -> Fault {
    Fault::permanent(code::COMMAND_MALFORMED, why).while_("read the command")
}

fn refused(fault: Fault) -> Reply {
    Reply { accepted: false, operation: None, duplicate: false, state: None, waiting_for: None, fault: Some(fault) }
}
