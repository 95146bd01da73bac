//! Sends commands to an engine's socket.

use super::{
    Command,
    frame::{self, Frame},
};
use anyhow::Context;
use longshore_schema::wire::Reply;
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// No engine listens at the socket; find it by `error.downcast_ref::<NobodyListens>()`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no engine listens on {}", path.display())]
pub struct NobodyListens {
    /// The socket.
    pub path: PathBuf,
}

/// Sends one command and waits for its reply. After any other error than [`NobodyListens`] the command may have
/// been taken: asking again with the same message id is safe and says so.
pub async fn request(path: &Path, command: &Command) -> anyhow::Result<Reply> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound].contains(&error.kind()) => {
            return Err(NobodyListens { path: path.into() }.into());
        }
        Err(error) => return Err(error).with_context(|| format!("connect to socket {}", path.display())),
    };
    let mut line = serde_json::to_vec(command).context("write the command as JSON")?;
    line.push(b'\n');
    let (from, mut to) = stream.split();
    to.write_all(&line).await.context("send the command to the engine")?;
    match frame::read(&mut BufReader::new(from)).await.context("read the engine's reply")? {
        Frame::Line(line) => serde_json::from_slice(&line).context("read the engine's reply"),
        Frame::TooLong => anyhow::bail!("the engine's reply is too long"),
        Frame::End => anyhow::bail!("the engine ended before it replied"),
    }
}
