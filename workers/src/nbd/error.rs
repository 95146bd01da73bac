//! What can go wrong between us and an NBD server.

/// Why a request, or the whole connection, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NbdError {
    /// The connection ended; every request that was under way has failed, and whether a write was done is unknown.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The server sent what the protocol forbids; the connection was ended.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server refused an option of the handshake.
    #[error("the server refused option {option} with code {code:#x}: {message}")]
    Refused {
        /// `NBD_OPT_*`.
        option: u32,
        /// `NBD_REP_ERR_*`.
        code: u32,
        /// What the server said.
        message: String,
    },
    /// The server couldn't do one request; others go on.
    #[error("the server answered {errno}{}{message}", if message.is_empty() { "" } else { ": " })]
    Server {
        /// The reason.
        errno: Errno,
        /// What the server said.
        message: String,
    },
    /// The request can't be sent: it is outside the export, not aligned, or the server doesn't offer it.
    #[error("request refused before sending: {0}")]
    Unsendable(String),
}

/// "Error values" of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    /// `NBD_EPERM`.
    NotPermitted,
    /// `NBD_EIO`.
    Io,
    /// `NBD_ENOMEM`.
    NoMemory,
    /// `NBD_EINVAL`.
    Invalid,
    /// `NBD_ENOSPC`.
    NoSpace,
    /// `NBD_EOVERFLOW`.
    Overflow,
    /// `NBD_ENOTSUP`.
    NotSupported,
    /// `NBD_ESHUTDOWN`.
    ShuttingDown,
    /// A number that the protocol doesn't name, to be treated as `Invalid`.
    Other(u32),
}

impl From<u32> for Errno {
    fn from(number: u32) -> Errno {
        match number {
            1 => Errno::NotPermitted,
            5 => Errno::Io,
            12 => Errno::NoMemory,
            22 => Errno::Invalid,
            28 => Errno::NoSpace,
            75 => Errno::Overflow,
            95 => Errno::NotSupported,
            108 => Errno::ShuttingDown,
            other => Errno::Other(other),
        }
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Errno::NotPermitted => f.write_str("operation not permitted"),
            Errno::Io => f.write_str("input/output error"),
            Errno::NoMemory => f.write_str("out of memory"),
            Errno::Invalid => f.write_str("invalid argument"),
            Errno::NoSpace => f.write_str("no space left"),
            Errno::Overflow => f.write_str("value too large"),
            Errno::NotSupported => f.write_str("not supported"),
            Errno::ShuttingDown => f.write_str("server is shutting down"),
            Errno::Other(number) => write!(f, "error {number}"),
        }
    }
}

impl NbdError {
    /// The connection ended because reading or writing it failed.
    pub(super) fn lost(error: std::io::Error) -> NbdError {
        NbdError::Lost(error.to_string())
    }

    /// The server sent what the protocol forbids.
    pub(super) fn protocol(what: impl Into<String>) -> NbdError {
        NbdError::Protocol(what.into())
    }
}

/// A server's text, made fit for a message: no control characters.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}
