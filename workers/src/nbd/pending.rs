//! Requests that wait for their reply, and what has come of it so far.

use super::{coverage::Coverage, error::NbdError};
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A run of bytes with one status of `base:allocation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, never 0.
    pub bytes: u64,
    /// Nothing is allocated for it (`NBD_STATE_HOLE`). It may still read as something else than zeros.
    pub hole: bool,
    /// It reads as zeros (`NBD_STATE_ZERO`).
    pub zero: bool,
}

/// A whole reply.
#[derive(Debug)]
pub(super) enum Answer {
    Data(Bytes),
    Runs(Vec<Run>),
    Done,
}

/// What is expected of the reply.
#[derive(Debug)]
pub(super) enum Expected {
    /// As many bytes as the request says.
    Data { buffer: Vec<u8>, arrived: Coverage },
    /// The status of at least the first byte.
    Status { runs: Option<Vec<Run>> },
    /// Success.
    Nothing,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) expected: Expected,
    /// The first error that a chunk carried: more chunks may follow it.
    pub(super) error: Option<NbdError>,
    /// Error chunks so far.
    pub(super) errors: u32,
    pub(super) answer: oneshot::Sender<Result<Answer, NbdError>>,
    /// Held until the reply is whole, even if nobody waits for it any more: the server still works on it.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Pending {
    /// The reply is whole: gives it to the caller, if it is still there. The error is a breach of the protocol.
    pub(super) fn complete(self) -> Result<(), NbdError> {
        let end = self.offset + u64::from(self.length);
        let result = match (self.error, self.expected) {
            (Some(error), _) => Err(error),
            (None, Expected::Data { buffer, arrived }) if arrived.is_whole(self.offset, end) => Ok(Answer::Data(buffer.into())),
            (None, Expected::Data { .. }) => Err(NbdError::protocol("a read's reply that lacks a part of the range")),
            (None, Expected::Status { runs: Some(runs) }) => Ok(Answer::Runs(runs)),
            (None, Expected::Status { runs: None }) => Err(NbdError::protocol("a reply without the status that was asked for")),
            (None, Expected::Nothing) => Ok(Answer::Done),
        };
        let breach = match &result {
            Err(error @ NbdError::Protocol(_)) => Err(error.clone()),
            Err(_) | Ok(_) => Ok(()),
        };
        drop(self.permit);
        // The caller may have been dropped: then nobody wants the answer.
        let _ = self.answer.send(result);
        breach
    }

    /// It will not be answered.
    pub(super) fn fail(self, error: NbdError) {
        let _ = self.answer.send(Err(error));
    }
}

/// All requests under way on a connection, by cookie.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    pending: HashMap<u64, Pending>,
    dead: Option<NbdError>,
}

impl Table {
    /// Enters a request and returns its cookie; hands it back if the connection is dead.
    pub(super) fn enter(&self, pending: Pending) -> Result<u64, NbdError> {
        let mut state = self.lock();
        if let Some(error) = &state.dead {
            return Err(error.clone());
        }
        state.last += 1;
        let cookie = state.last;
        state.pending.insert(cookie, pending);
        Ok(cookie)
    }

    /// Takes the request out while a chunk of its reply is read.
    pub(super) fn take(&self, cookie: u64) -> Option<Pending> {
        self.lock().pending.remove(&cookie)
    }

    /// Puts it back: its reply isn't whole yet.
    pub(super) fn put_back(&self, cookie: u64, pending: Pending) {
        let mut state = self.lock();
        match &state.dead {
            None => drop(state.pending.insert(cookie, pending)),
            Some(error) => pending.fail(error.clone()),
        }
    }

    /// The connection is dead: fails everything that waits, and everything that comes. The first reason stays.
    pub(super) fn kill(&self, error: NbdError) {
        let mut state = self.lock();
        let error = state.dead.get_or_insert(error).clone();
        for (_, pending) in state.pending.drain() {
            pending.fail(error.clone());
        }
    }

    /// Why the connection is dead, if it is.
    pub(super) fn death(&self) -> Option<NbdError> {
        self.lock().dead.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
