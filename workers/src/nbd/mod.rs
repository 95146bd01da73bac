//! A client of the NBD protocol: many requests in flight on one connection, structured replies and
//! `base:allocation`. What the server sends is checked as a stranger's: lengths are bounded before they are
//! believed, every cookie must be ours, every byte of a read must come exactly once.
//!
//! Protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>; section names in
//! comments are that document's.

mod client;
mod coverage;
mod error;
mod handshake;
mod pending;
mod protocol;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use error::{Errno, NbdError};
pub use handshake::{BlockSize, Export};
pub use pending::Run;
