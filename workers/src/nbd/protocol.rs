//! Numbers of the NBD protocol document, by its own names. All integers travel in network byte order.

/// First eight bytes of a server: "NBDMAGIC".
pub(super) const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT": newstyle negotiation, and the start of each option.
pub(super) const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
/// Start of each option reply.
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// `NBD_REQUEST_MAGIC`.
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// `NBD_SIMPLE_REPLY_MAGIC`.
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// `NBD_STRUCTURED_REPLY_MAGIC`.
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, the same bits from both sides: `NBD_FLAG_FIXED_NEWSTYLE`.
pub(super) const FIXED_NEWSTYLE: u16 = 1;
/// Handshake flags: `NBD_FLAG_NO_ZEROES`.
pub(super) const NO_ZEROES: u16 = 1 << 1;

/// `NBD_OPT_GO`.
pub(super) const OPT_GO: u32 = 7;
/// `NBD_OPT_STRUCTURED_REPLY`.
pub(super) const OPT_STRUCTURED_REPLY: u32 = 8;
/// `NBD_OPT_SET_META_CONTEXT`.
pub(super) const OPT_SET_META_CONTEXT: u32 = 10;

/// `NBD_REP_ACK`.
pub(super) const REP_ACK: u32 = 1;
/// `NBD_REP_INFO`.
pub(super) const REP_INFO: u32 = 3;
/// `NBD_REP_META_CONTEXT`.
pub(super) const REP_META_CONTEXT: u32 = 4;
/// Set in every option reply that is an error.
pub(super) const REP_ERROR: u32 = 1 << 31;
/// `NBD_REP_ERR_UNSUP`.
pub(super) const REP_ERR_UNSUP: u32 = REP_ERROR + 1;

/// `NBD_INFO_EXPORT`.
pub(super) const INFO_EXPORT: u16 = 0;
/// `NBD_INFO_BLOCK_SIZE`.
pub(super) const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags: `NBD_FLAG_HAS_FLAGS`.
pub(super) const HAS_FLAGS: u16 = 1;
/// Transmission flags: `NBD_FLAG_READ_ONLY`.
pub(super) const READ_ONLY: u16 = 1 << 1;
/// Transmission flags: `NBD_FLAG_SEND_FLUSH`.
pub(super) const SEND_FLUSH: u16 = 1 << 2;
/// Transmission flags: `NBD_FLAG_SEND_FUA`.
pub(super) const SEND_FUA: u16 = 1 << 3;
/// Transmission flags: `NBD_FLAG_SEND_WRITE_ZEROES`.
pub(super) const SEND_WRITE_ZEROES: u16 = 1 << 6;
/// Transmission flags: `NBD_FLAG_SEND_DF`.
pub(super) const SEND_DF: u16 = 1 << 7;
/// Transmission flags: `NBD_FLAG_CAN_MULTI_CONN`.
pub(super) const CAN_MULTI_CONN: u16 = 1 << 8;

/// Command flags: `NBD_CMD_FLAG_FUA`.
pub(super) const FLAG_FUA: u16 = 1;
/// Command flags: `NBD_CMD_FLAG_NO_HOLE`.
pub(super) const FLAG_NO_HOLE: u16 = 1 << 1;
/// Command flags: `NBD_CMD_FLAG_DF`.
pub(super) const FLAG_DF: u16 = 1 << 2;

/// Chunk flags: `NBD_REPLY_FLAG_DONE`.
pub(super) const REPLY_DONE: u16 = 1;
/// `NBD_REPLY_TYPE_NONE`.
pub(super) const CHUNK_NONE: u16 = 0;
/// `NBD_REPLY_TYPE_OFFSET_DATA`.
pub(super) const CHUNK_OFFSET_DATA: u16 = 1;
/// `NBD_REPLY_TYPE_OFFSET_HOLE`.
pub(super) const CHUNK_OFFSET_HOLE: u16 = 2;
/// `NBD_REPLY_TYPE_BLOCK_STATUS`.
pub(super) const CHUNK_BLOCK_STATUS: u16 = 5;
/// Set in every chunk type that is an error.
pub(super) const CHUNK_ERROR: u16 = 1 << 15;

/// `base:allocation`: `NBD_STATE_HOLE`.
pub(super) const STATE_HOLE: u32 = 1;
/// `base:allocation`: `NBD_STATE_ZERO`.
pub(super) const STATE_ZERO: u32 = 1 << 1;

/// "Values": no string is longer.
pub(super) const MAX_STRING: usize = 4096;
/// What a client may assume where the server names no maximum ("Block size constraints").
pub(super) const DEFAULT_MAXIMUM_BLOCK: u32 = 32 << 20;
