//! The fixed newstyle handshake: structured replies, `base:allocation`, and the export with its block sizes.

use super::{
    error::{NbdError, printable},
    protocol::*,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BASE_ALLOCATION: &[u8] = b"base:allocation";
/// Longest reply to an option that is believed: a context's id and name, or an error's text.
const MAX_OPTION_REPLY: u32 = 4 + MAX_STRING as u32;
/// Most replies to one option: a server that sends more never means to end.
const MAX_OPTION_REPLIES: usize = 64;
/// "Block size constraints": a minimum over this is nothing that a disk has.
const MAX_MINIMUM_BLOCK: u32 = 64 << 10;

/// What the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Bytes.
    pub size: u64,
    /// Writing is refused.
    pub read_only: bool,
    /// `flush` is offered.
    pub can_flush: bool,
    /// Writes may ask to be durable before their reply.
    pub can_fua: bool,
    /// `write_zeroes` is offered.
    pub can_write_zeroes: bool,
    /// What one connection has flushed is durable for all, and all see the same bytes.
    pub multi_conn: bool,
    /// Limits of a request.
    pub block: BlockSize,
    /// Reads may ask for their data in one chunk.
    pub(super) can_df: bool,
    /// Structured replies were agreed on.
    pub structured: bool,
    /// The id of `base:allocation`, if the server offers it.
    pub(super) allocation: Option<u32>,
}

/// "Block size constraints": what one request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize {
    /// Offsets and lengths are multiples of it; a power of two.
    pub minimum: u32,
    /// Requests of this size and alignment are efficient.
    pub preferred: u32,
    /// No read or write is longer.
    pub maximum: u32,
}

/// Negotiates until the transmission phase begins.
pub(super) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, name: &str) -> Result<Export, NbdError> {
    if name.len() > MAX_STRING {
        return Err(NbdError::Unsendable("the export's name is longer than 4096 bytes".into()));
    }
    if stream.read_u64().await.map_err(NbdError::lost)? != NBDMAGIC
        || stream.read_u64().await.map_err(NbdError::lost)? != IHAVEOPT
    {
        return Err(NbdError::protocol("not an NBD server of the newstyle kind"));
    }
    let offered = stream.read_u16().await.map_err(NbdError::lost)?;
    if offered & FIXED_NEWSTYLE == 0 {
        return Err(NbdError::protocol("no fixed newstyle negotiation"));
    }
    let ours = u32::from(offered & (FIXED_NEWSTYLE | NO_ZEROES));
    stream.write_all(&ours.to_be_bytes()).await.map_err(NbdError::lost)?;
    let structured = match option(stream, OPT_STRUCTURED_REPLY, &[]).await {
        Ok(_) => true,
        Err(NbdError::Refused { code: REP_ERR_UNSUP, .. }) => false,
        Err(error) => return Err(error),
    };
    let allocation = if structured { allocation_context(stream, name).await? } else { None };
    go(stream, name, structured, allocation).await
}

async fn allocation_context<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, name: &str) -> Result<Option<u32>, NbdError> {
    let mut body = Vec::new();
    put_string(&mut body, name.as_bytes());
    body.extend_from_slice(&1u32.to_be_bytes());
    put_string(&mut body, BASE_ALLOCATION);
    let replies = match option(stream, OPT_SET_META_CONTEXT, &body).await {
        Ok(replies) => replies,
        Err(NbdError::Refused { code: REP_ERR_UNSUP, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match &replies[..] {
        [] => Ok(None),
        [(REP_META_CONTEXT, body)] => match body.split_first_chunk::<4>() {
            Some((id, BASE_ALLOCATION)) => Ok(Some(u32::from_be_bytes(*id))),
            Some(_) | None => Err(NbdError::protocol("a meta context that wasn't asked for")),
        },
        _ => Err(NbdError::protocol("more than the one meta context that was asked for")),
    }
}

async fn go<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    name: &str,
    structured: bool,
    allocation: Option<u32>,
) -> Result<Export, NbdError> {
    let mut body = Vec::new();
    put_string(&mut body, name.as_bytes());
    body.extend_from_slice(&1u16.to_be_bytes());
    body.extend_from_slice(&INFO_BLOCK_SIZE.to_be_bytes());
    let mut found = None;
    let mut block = BlockSize { minimum: 1, preferred: 4096, maximum: DEFAULT_MAXIMUM_BLOCK };
    for (kind, body) in option(stream, OPT_GO, &body).await? {
        let Some((number, rest)) = body.split_first_chunk::<2>().filter(|_| kind == REP_INFO) else {
            return Err(NbdError::protocol("a reply to NBD_OPT_GO that is no information"));
        };
        match (u16::from_be_bytes(*number), rest) {
            (INFO_EXPORT, &[a, b, c, d, e, f, g, h, i, j]) if found.is_none() => {
                found = Some((u64::from_be_bytes([a, b, c, d, e, f, g, h]), u16::from_be_bytes([i, j])));
            }
            (INFO_BLOCK_SIZE, &[a, b, c, d, e, f, g, h, i, j, k, l]) => {
                block = BlockSize {
                    minimum: u32::from_be_bytes([a, b, c, d]),
                    preferred: u32::from_be_bytes([e, f, g, h]),
                    maximum: u32::from_be_bytes([i, j, k, l]),
                };
            }
            (INFO_EXPORT | INFO_BLOCK_SIZE, _) => return Err(NbdError::protocol("information of the wrong length, or twice")),
            // "The server MAY send other information": it is to be ignored.
            (_, _) => (),
        }
    }
    let (size, flags) = found.ok_or_else(|| NbdError::protocol("no NBD_INFO_EXPORT"))?;
    if flags & HAS_FLAGS == 0 {
        return Err(NbdError::protocol("transmission flags without NBD_FLAG_HAS_FLAGS"));
    }
    Ok(Export {
        size: checked_size(size)?,
        read_only: flags & READ_ONLY != 0,
        can_flush: flags & SEND_FLUSH != 0,
        can_fua: flags & SEND_FUA != 0,
        can_write_zeroes: flags & SEND_WRITE_ZEROES != 0,
        multi_conn: flags & CAN_MULTI_CONN != 0,
        block: checked_block(block)?,
        can_df: structured && flags & SEND_DF != 0,
        structured,
        allocation,
    })
}

/// Offsets are sent to servers that count in signed numbers, and ours must not overflow.
fn checked_size(size: u64) -> Result<u64, NbdError> {
    if size > i64::MAX as u64 { Err(NbdError::protocol("an export of more than 2^63 bytes")) } else { Ok(size) }
}

fn checked_block(block: BlockSize) -> Result<BlockSize, NbdError> {
    let BlockSize { minimum, preferred, maximum } = block;
    if !minimum.is_power_of_two() || minimum > MAX_MINIMUM_BLOCK || maximum < minimum || preferred < minimum {
        return Err(NbdError::protocol(format!("absurd block sizes {minimum}, {preferred}, {maximum}")));
    }
    // A server without a limit of its own says 0xffffffff; ours is the portable one.
    Ok(BlockSize { maximum: maximum.min(DEFAULT_MAXIMUM_BLOCK) / minimum * minimum, ..block })
}

/// Sends one option and reads its replies up to the acknowledgement.
async fn option<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    option: u32,
    body: &[u8],
) -> Result<Vec<(u32, Vec<u8>)>, NbdError> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend_from_slice(&IHAVEOPT.to_be_bytes());
    message.extend_from_slice(&option.to_be_bytes());
    message.extend_from_slice(&(body.len() as u32).to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message).await.map_err(NbdError::lost)?;
    stream.flush().await.map_err(NbdError::lost)?;
    let mut replies = Vec::new();
    while replies.len() <= MAX_OPTION_REPLIES {
        if stream.read_u64().await.map_err(NbdError::lost)? != OPTION_REPLY_MAGIC
            || stream.read_u32().await.map_err(NbdError::lost)? != option
        {
            return Err(NbdError::protocol("not a reply to the option that was sent"));
        }
        let kind = stream.read_u32().await.map_err(NbdError::lost)?;
        let length = stream.read_u32().await.map_err(NbdError::lost)?;
        if length > MAX_OPTION_REPLY {
            return Err(NbdError::protocol(format!("an option reply of {length} bytes")));
        }
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.map_err(NbdError::lost)?;
        if kind & REP_ERROR != 0 {
            return Err(NbdError::Refused { option, code: kind, message: printable(&body) });
        }
        match kind {
            REP_ACK => return Ok(replies),
            _ => replies.push((kind, body)),
        }
    }
    Err(NbdError::protocol("replies to an option without end"))
}

fn put_string(body: &mut Vec<u8>, text: &[u8]) {
    body.extend_from_slice(&(text.len() as u32).to_be_bytes());
    body.extend_from_slice(text);
}
