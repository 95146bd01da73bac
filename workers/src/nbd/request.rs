//! Requests: "Request message" of the protocol, and the task that sends them.

use super::{
    error::NbdError,
    protocol::{FLAG_DF, FLAG_FUA, FLAG_NO_HOLE, REQUEST_MAGIC},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, BufWriter},
    sync::mpsc,
};

/// What to do, with what the reply needs not know.
#[derive(Debug, Clone)]
pub(super) enum Command {
    /// `NBD_CMD_READ`.
    Read {
        /// The data comes in one chunk, holes as zeros.
        in_one: bool,
    },
    /// `NBD_CMD_WRITE`.
    Write {
        /// As many bytes as the request says.
        data: Bytes,
        /// Durable before the reply.
        fua: bool,
    },
    /// `NBD_CMD_DISC`: no reply comes.
    Disconnect,
    /// `NBD_CMD_FLUSH`.
    Flush,
    /// `NBD_CMD_WRITE_ZEROES`.
    WriteZeroes {
        /// Whether the range may become a hole.
        may_be_hole: bool,
    },
    /// `NBD_CMD_BLOCK_STATUS`.
    BlockStatus,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) cookie: u64,
    pub(super) command: Command,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl Request {
    fn header(&self) -> [u8; 28] {
        let (number, flags) = match &self.command {
            Command::Read { in_one } => (0u16, if *in_one { FLAG_DF } else { 0 }),
            Command::Write { fua, .. } => (1, if *fua { FLAG_FUA } else { 0 }),
            Command::Disconnect => (2, 0),
            Command::Flush => (3, 0),
            Command::WriteZeroes { may_be_hole } => (6, if *may_be_hole { 0 } else { FLAG_NO_HOLE }),
            Command::BlockStatus => (7, 0),
        };
        let mut header = [0; 28];
        header[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        header[4..6].copy_from_slice(&flags.to_be_bytes());
        header[6..8].copy_from_slice(&number.to_be_bytes());
        header[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        header[16..24].copy_from_slice(&self.offset.to_be_bytes());
        header[24..28].copy_from_slice(&self.length.to_be_bytes());
        header
    }
}

/// Sends what comes until a `Disconnect`, or until nobody can send any more. A task of its own, so that a
/// dropped caller never leaves half a request on the connection.
pub(super) async fn send_all<W: AsyncWrite + Unpin>(stream: W, mut requests: mpsc::Receiver<Request>) -> Result<(), NbdError> {
    let mut stream = BufWriter::new(stream);
    while let Some(request) = requests.recv().await {
        stream.write_all(&request.header()).await.map_err(NbdError::lost)?;
        match &request.command {
            Command::Write { data, .. } => stream.write_all(data).await.map_err(NbdError::lost)?,
            Command::Disconnect => break,
            Command::Read { .. } | Command::Flush | Command::WriteZeroes { .. } | Command::BlockStatus => (),
        }
        if requests.is_empty() {
            stream.flush().await.map_err(NbdError::lost)?;
        }
    }
    stream.flush().await.map_err(NbdError::lost)?;
    stream.shutdown().await.map_err(NbdError::lost)
}
