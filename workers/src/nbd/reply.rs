//! Replies: reads them from the connection, checks them against the request that they name, and completes it.
//! Any breach of the protocol ends the connection, since nothing after it can be trusted.

use super::{
    error::{NbdError, printable},
    handshake::Export,
    pending::{Expected, Pending, Run, Table},
    protocol::*,
};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

/// Most status descriptors in one chunk that are believed; QEMU sends up to 131072.
const MAX_DESCRIPTORS: u32 = 1 << 18;
/// Most error chunks in one reply: an honest server sends one, or one for each bad range.
const MAX_ERRORS: u32 = 64;

/// Reads replies until the connection ends, and says why it did.
pub(super) async fn read_all<R: AsyncRead + Unpin>(stream: R, export: &Export, table: &Table) -> NbdError {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    loop {
        if let Err(error) = read_one(&mut stream, export, table).await {
            return error;
        }
    }
}

async fn read_one<R: AsyncRead + Unpin>(stream: &mut BufReader<R>, export: &Export, table: &Table) -> Result<(), NbdError> {
    let magic = stream.read_u32().await.map_err(NbdError::lost)?;
    match magic {
        SIMPLE_REPLY_MAGIC => {
            let errno = stream.read_u32().await.map_err(NbdError::lost)?;
            let cookie = stream.read_u64().await.map_err(NbdError::lost)?;
            let mut pending = taken(table, cookie)?;
            match simple(stream, export, &mut pending, errno).await {
                Ok(()) => pending.complete(),
                Err(error) => Err(failed(pending, error)),
            }
        }
        STRUCTURED_REPLY_MAGIC if export.structured => {
            let flags = stream.read_u16().await.map_err(NbdError::lost)?;
            let kind = stream.read_u16().await.map_err(NbdError::lost)?;
            let cookie = stream.read_u64().await.map_err(NbdError::lost)?;
            let length = stream.read_u32().await.map_err(NbdError::lost)?;
            let mut pending = taken(table, cookie)?;
            match chunk(stream, export, &mut pending, kind, length, flags).await {
                Ok(()) if flags & REPLY_DONE != 0 => pending.complete(),
                Ok(()) => {
                    table.put_back(cookie, pending);
                    Ok(())
                }
                Err(error) => Err(failed(pending, error)),
            }
        }
        other => Err(NbdError::protocol(format!("{other:#x} where a reply should begin"))),
    }
}

fn taken(table: &Table, cookie: u64) -> Result<Pending, NbdError> {
    table.take(cookie).ok_or_else(|| NbdError::protocol(format!("a reply to request {cookie}, which isn't under way")))
}

fn failed(pending: Pending, error: NbdError) -> NbdError {
    pending.fail(error.clone());
    error
}

/// "Simple reply message".
async fn simple<R: AsyncRead + Unpin>(
    stream: &mut R,
    export: &Export,
    pending: &mut Pending,
    errno: u32,
) -> Result<(), NbdError> {
    let (start, end) = (pending.offset, pending.offset + u64::from(pending.length));
    if errno != 0 {
        pending.error = Some(NbdError::Server { errno: errno.into(), message: String::new() });
        return Ok(());
    }
    match &mut pending.expected {
        Expected::Data { buffer, arrived } if !export.structured => {
            arrived.add(start, end);
            stream.read_exact(buffer).await.map_err(NbdError::lost)?;
            Ok(())
        }
        Expected::Data { .. } => Err(NbdError::protocol("a simple reply to a read, where structured ones were agreed on")),
        Expected::Status { .. } => Err(NbdError::protocol("a simple reply to a status request")),
        Expected::Nothing => Ok(()),
    }
}

/// "Structured reply chunk message".
async fn chunk<R: AsyncRead + Unpin>(
    stream: &mut R,
    export: &Export,
    pending: &mut Pending,
    kind: u16,
    length: u32,
    flags: u16,
) -> Result<(), NbdError> {
    match kind {
        CHUNK_NONE if length == 0 && flags & REPLY_DONE != 0 => Ok(()),
        CHUNK_OFFSET_DATA => data(stream, pending, length).await,
        CHUNK_OFFSET_HOLE if length == 12 => hole(stream, pending).await,
        CHUNK_BLOCK_STATUS => status(stream, export, pending, length).await,
        kind if kind & CHUNK_ERROR != 0 => error(stream, pending, length).await,
        kind => Err(NbdError::protocol(format!("a chunk of kind {kind} and {length} bytes"))),
    }
}

async fn data<R: AsyncRead + Unpin>(stream: &mut R, pending: &mut Pending, length: u32) -> Result<(), NbdError> {
    let bytes = u64::from(length).checked_sub(8).ok_or_else(|| NbdError::protocol("a data chunk without an offset"))?;
    let offset = stream.read_u64().await.map_err(NbdError::lost)?;
    let into = wanted(pending, offset, bytes)?;
    stream.read_exact(into).await.map_err(NbdError::lost)?;
    Ok(())
}

async fn hole<R: AsyncRead + Unpin>(stream: &mut R, pending: &mut Pending) -> Result<(), NbdError> {
    let offset = stream.read_u64().await.map_err(NbdError::lost)?;
    let bytes = stream.read_u32().await.map_err(NbdError::lost)?;
    // The buffer is zeros where nothing has arrived.
    wanted(pending, offset, u64::from(bytes)).map(|_| ())
}

/// The part of the buffer that a chunk fills, if it may.
fn wanted(pending: &mut Pending, offset: u64, bytes: u64) -> Result<&mut [u8], NbdError> {
    let (start, length) = (pending.offset, u64::from(pending.length));
    let Expected::Data { buffer, arrived } = &mut pending.expected else {
        return Err(NbdError::protocol("data that nobody asked for"));
    };
    let from = offset.checked_sub(start).filter(|from| *from <= length && bytes <= length - from);
    let from = from.ok_or_else(|| NbdError::protocol("data outside of the range that was asked for"))?;
    if !arrived.add(offset, offset + bytes) {
        return Err(NbdError::protocol("a chunk that is empty, or overlaps another"));
    }
    Ok(&mut buffer[from as usize..(from + bytes) as usize])
}

/// "Block status": may cover less than was asked for, and its last descriptor more; it is clamped here.
async fn status<R: AsyncRead + Unpin>(
    stream: &mut R,
    export: &Export,
    pending: &mut Pending,
    length: u32,
) -> Result<(), NbdError> {
    let count = length.saturating_sub(4) / 8;
    if length < 12 || !(length - 4).is_multiple_of(8) || count > MAX_DESCRIPTORS {
        return Err(NbdError::protocol(format!("a status chunk of {length} bytes")));
    }
    let end = pending.offset + u64::from(pending.length);
    let Expected::Status { runs: runs @ None } = &mut pending.expected else {
        return Err(NbdError::protocol("a status that nobody asked for, or twice"));
    };
    let context = stream.read_u32().await.map_err(NbdError::lost)?;
    if Some(context) != export.allocation {
        return Err(NbdError::protocol("the status of another context"));
    }
    let mut found: Vec<Run> = Vec::new();
    let mut at = pending.offset;
    for _ in 0..count {
        let bytes = u64::from(stream.read_u32().await.map_err(NbdError::lost)?);
        let state = stream.read_u32().await.map_err(NbdError::lost)?;
        if bytes == 0 {
            return Err(NbdError::protocol("a status of no bytes"));
        }
        let bytes = bytes.min(end - at);
        let (hole, zero) = (state & STATE_HOLE != 0, state & STATE_ZERO != 0);
        match found.last_mut() {
            _ if bytes == 0 => (),
            Some(last) if (last.hole, last.zero) == (hole, zero) => last.bytes += bytes,
            Some(_) | None => found.push(Run { offset: at, bytes, hole, zero }),
        }
        at += bytes;
    }
    *runs = Some(found);
    Ok(())
}

/// `NBD_REPLY_TYPE_ERROR`, `NBD_REPLY_TYPE_ERROR_OFFSET` and errors to come: all begin alike.
async fn error<R: AsyncRead + Unpin>(stream: &mut R, pending: &mut Pending, length: u32) -> Result<(), NbdError> {
    if length < 6 || length as usize > 6 + MAX_STRING + 8 {
        return Err(NbdError::protocol(format!("an error chunk of {length} bytes")));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.map_err(NbdError::lost)?;
    let errno = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
    let text = usize::from(u16::from_be_bytes([body[4], body[5]]));
    let text = body.get(6..6 + text).filter(|_| errno != 0);
    let text = text.ok_or_else(|| NbdError::protocol("an error without a number, or longer than its chunk"))?;
    pending.errors += 1;
    if pending.errors > MAX_ERRORS {
        return Err(NbdError::protocol("errors without end"));
    }
    pending.error.get_or_insert(NbdError::Server { errno: errno.into(), message: printable(text) });
    Ok(())
}
