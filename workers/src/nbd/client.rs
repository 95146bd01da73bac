//! One connection: two tasks (one sends, one reads) and any number of callers.

use super::{
    coverage::Coverage,
    error::{Errno, NbdError},
    handshake::{Export, negotiate},
    pending::{Answer, Expected, Pending, Run, Table},
    reply::read_all,
    request::{Command, Request, send_all},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

/// Most requests under way on one connection; more callers wait. QEMU itself works on 16 of a client at once.
const IN_FLIGHT: usize = 16;
/// Longest status or zero request: lengths have 32 bits, and this is a multiple of every block size.
const LONGEST: u64 = 1 << 31;

/// A connection to one export. Its methods may be called from many tasks at once; dropping a caller's future
/// doesn't disturb the others. Dropping the client ends the connection without a farewell.
#[derive(Debug)]
pub struct Client {
    export: Arc<Export>,
    table: Arc<Table>,
    slots: Arc<Semaphore>,
    requests: mpsc::Sender<Request>,
    sender: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Client {
    /// Negotiates on a fresh stream and opens the export of that name.
    pub async fn connect<S>(mut stream: S, name: &str) -> Result<Client, NbdError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let export = Arc::new(negotiate(&mut stream, name).await?);
        let (from_server, to_server) = tokio::io::split(stream);
        let table = Arc::new(Table::default());
        let (requests, queue) = mpsc::channel(IN_FLIGHT);
        let sender = tokio::spawn({
            let table = Arc::clone(&table);
            async move {
                if let Err(error) = send_all(to_server, queue).await {
                    table.kill(error);
                }
            }
        });
        let reader = tokio::spawn({
            let (export, table, sender) = (Arc::clone(&export), Arc::clone(&table), sender.abort_handle());
            async move {
                let error = read_all(from_server, &export, &table).await;
                table.kill(error);
                // With both halves gone the server sees the end, whatever it had broken.
                sender.abort();
            }
        });
        Ok(Client { export, table, slots: Arc::new(Semaphore::new(IN_FLIGHT)), requests, sender, reader })
    }

    /// What the server offers.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Reads exactly `bytes` from `offset`, at most the export's maximum block. Neither needs to be aligned.
    pub async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, NbdError> {
        let end = self.checked_end(offset, u64::from(bytes))?;
        let block = u64::from(self.export.block.minimum);
        let from = offset / block * block;
        let length = (end.div_ceil(block) * block).min(self.export.size) - from;
        if length > u64::from(self.export.block.maximum) {
            return Err(NbdError::Unsendable(format!("a read of {length} bytes is over the server's maximum")));
        }
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let ask = |in_one| {
            let expected = Expected::Data { buffer: vec![0; length as usize], arrived: Coverage::default() };
            self.ask(Command::Read { in_one }, from, length as u32, expected)
        };
        // In one chunk, because QEMU drops the connection if a read fails that it wanted to send in several
        // (10.0.2, `nbd_co_send_sparse_read`), and looks for holes again for each. A server may find that too long.
        let answer = match ask(self.export.can_df).await {
            Err(NbdError::Server { errno: Errno::Overflow, .. }) if self.export.can_df => ask(false).await,
            answer => answer,
        };
        match answer? {
            Answer::Data(data) => Ok(data.slice((offset - from) as usize..(end - from) as usize)),
            Answer::Runs(_) | Answer::Done => Err(NbdError::protocol("a read answered by something else")),
        }
    }

    /// Writes `data` at `offset`; aligned to the export's minimum block and at most its maximum.
    pub async fn write(&self, offset: u64, data: Bytes, fua: bool) -> Result<(), NbdError> {
        self.check_writable(offset, data.len() as u64, !fua || self.export.can_fua)?;
        if data.len() > self.export.block.maximum as usize {
            return Err(NbdError::Unsendable(format!("a write of {} bytes is over the server's maximum", data.len())));
        }
        match data.len() {
            0 => Ok(()),
            length => self.order(Command::Write { data, fua }, offset, length as u32).await,
        }
    }

    /// Makes a range read as zeros, as a hole if that is allowed; aligned to the export's minimum block.
    pub async fn write_zeroes(&self, offset: u64, bytes: u64, may_be_hole: bool) -> Result<(), NbdError> {
        self.check_writable(offset, bytes, self.export.can_write_zeroes)?;
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let length = (end - at).min(LONGEST);
            self.order(Command::WriteZeroes { may_be_hole }, at, length as u32).await?;
            at += length;
        }
        Ok(())
    }

    /// Makes every write that was answered durable.
    pub async fn flush(&self) -> Result<(), NbdError> {
        match self.export.can_flush {
            true => self.order(Command::Flush, 0, 0).await,
            false => Err(NbdError::Unsendable("the server offers no flush".into())),
        }
    }

    /// The status of every byte of the range: in order, without gaps, neighbours differ. It asks as often as
    /// it takes. The range is best limited by the caller: the runs of a large one may be many.
    pub async fn block_status(&self, offset: u64, bytes: u64) -> Result<Vec<Run>, NbdError> {
        let end = self.checked_end(offset, bytes)?;
        if self.export.allocation.is_none() {
            return Err(NbdError::Unsendable("the server offers no base:allocation".into()));
        }
        let block = u64::from(self.export.block.minimum);
        let mut found: Vec<Run> = Vec::new();
        let mut at = offset;
        while at < end {
            let from = at / block * block;
            let length = ((end.div_ceil(block) * block).min(self.export.size) - from).min(LONGEST);
            let answer = self.ask(Command::BlockStatus, from, length as u32, Expected::Status { runs: None }).await?;
            let Answer::Runs(runs) = answer else {
                return Err(NbdError::protocol("a status request answered by something else"));
            };
            let before = at;
            for run in runs {
                let (start, stop) = (run.offset.max(at), (run.offset + run.bytes).min(end));
                if start >= stop {
                    continue;
                }
                match found.last_mut() {
                    Some(last) if (last.hole, last.zero) == (run.hole, run.zero) => last.bytes += stop - start,
                    Some(_) | None => found.push(Run { offset: start, bytes: stop - start, ..run }),
                }
                at = stop;
            }
            if at == before {
                return Err(NbdError::protocol("a status that covers nothing"));
            }
        }
        Ok(found)
    }

    /// Says farewell and waits until the server has closed its side.
    pub async fn disconnect(mut self) {
        let farewell = Request { cookie: 0, command: Command::Disconnect, offset: 0, length: 0 };
        if self.requests.send(farewell).await.is_ok() {
            // Either ends when the connection does; how they ended doesn't matter any more.
            let _ = (&mut self.sender).await;
            let _ = (&mut self.reader).await;
        }
    }

    async fn order(&self, command: Command, offset: u64, length: u32) -> Result<(), NbdError> {
        match self.ask(command, offset, length, Expected::Nothing).await? {
            Answer::Done => Ok(()),
            Answer::Data(_) | Answer::Runs(_) => Err(NbdError::protocol("an order answered with data")),
        }
    }

    async fn ask(&self, command: Command, offset: u64, length: u32, expected: Expected) -> Result<Answer, NbdError> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| self.death())?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { offset, length, expected, error: None, errors: 0, answer, permit };
        let room = self.requests.reserve().await.map_err(|_| self.death())?;
        let cookie = self.table.enter(pending)?;
        room.send(Request { cookie, command, offset, length });
        answered.await.unwrap_or_else(|_| Err(self.death()))
    }

    fn death(&self) -> NbdError {
        self.table.death().unwrap_or_else(|| NbdError::Lost("the client was closed".into()))
    }

    fn checked_end(&self, offset: u64, bytes: u64) -> Result<u64, NbdError> {
        offset
            .checked_add(bytes)
            .filter(|end| *end <= self.export.size)
            .ok_or_else(|| NbdError::Unsendable(format!("{bytes} bytes at {offset} reach past the end at {}", self.export.size)))
    }

    fn check_writable(&self, offset: u64, bytes: u64, offered: bool) -> Result<(), NbdError> {
        let end = self.checked_end(offset, bytes)?;
        let block = u64::from(self.export.block.minimum);
        if self.export.read_only || !offered {
            return Err(NbdError::Unsendable("the server doesn't offer that".into()));
        }
        if !offset.is_multiple_of(block) || !(end.is_multiple_of(block) || end == self.export.size) {
            return Err(NbdError::Unsendable(format!("{bytes} bytes at {offset} aren't aligned to {block}")));
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.sender.abort();
        self.reader.abort();
    }
}
