//! The unix socket of embedded mode: the same commands and replies as over the broker, one JSON object a line.
//!
//! A connection carries any number of requests, answered in their order. The socket's file has mode 0600, and
//! who may open it acts as the user `local`.

mod client;
mod file;
mod frame;
mod server;

pub use client::{NobodyListens, request};
pub use server::serve;

use longshore_schema::{body, wire::names};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most bytes of a line, without its end.
const LINE_LIMIT: usize = names::BODY_LIMIT;

/// A command as one line: the properties and the body that it would have over the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// As in the contract: `backup-snapshot`, `cancel`, …
    pub kind: String,
    /// The idempotency key: 1 to 128 characters.
    pub message_id: String,
    /// For the client's own use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// 0 to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Whom the user acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The command's body.
    #[serde(deserialize_with = "body::field")]
    pub body: Value,
}

#[cfg(test)]
mod tests;
