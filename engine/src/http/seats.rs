//! Seats for connections. When all are taken, whoever has been silent for longest gives his up to who comes: clients
//! that say nothing keep nobody out.
//!
//! **Invariant**: a connection whose request is being answered isn't moved. There are fewer such requests than seats, since
//! reading, probing and streaming have limits of their own; so there is always somebody who can be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    silent: Mutex<Silent>,
    somebody: Notify,
}

/// Connections that wait for a request, the longest first.
#[derive(Debug, Default)]
struct Silent {
    turns: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One connection's seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    /// Since when it is silent, if it is.
    turn: Mutex<Option<u64>>,
    /// Says that it must go.
    pub(super) moved: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// A request of a connection, until its answer was handed over.
#[derive(Debug)]
pub(super) struct Asking(Arc<Seat>);

impl Seats {
    pub(super) fn new(count: usize) -> Arc<Seats> {
        Arc::new(Seats { free: Arc::new(Semaphore::new(count)), silent: Mutex::default(), somebody: Notify::new() })
    }

    /// A seat, if need be somebody else's.
    pub(super) async fn take(self: &Arc<Seats>) -> Arc<Seat> {
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            let longest = self.silent().waiting.pop_first();
            let freed = self.free.clone().acquire_owned();
            match longest {
                // It goes at once. The semaphore is never closed.
                Some((_, moved)) => {
                    moved.cancel();
                    if let Ok(permit) = freed.await {
                        break permit;
                    }
                }
                None => tokio::select! {
                    Ok(permit) = freed => break permit,
                    () = self.somebody.notified() => (),
                },
            }
        };
        let seat = Seat { seats: self.clone(), turn: Mutex::default(), moved: CancellationToken::new(), _permit: permit };
        seat.falls_silent();
        Arc::new(seat)
    }

    fn silent(&self) -> MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Its request is being answered from now on.
    pub(super) fn asks(self: &Arc<Seat>) -> Asking {
        self.speaks();
        Asking(self.clone())
    }

    fn speaks(&self) {
        if let Some(turn) = self.turn().take() {
            self.seats.silent().waiting.remove(&turn);
        }
    }

    fn falls_silent(&self) {
        let mut silent = self.seats.silent();
        silent.turns += 1;
        let turn = silent.turns;
        silent.waiting.insert(turn, self.moved.clone());
        drop(silent);
        *self.turn() = Some(turn);
        self.seats.somebody.notify_one();
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.speaks();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.falls_silent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn who_comes_gets_the_seat_of_who_was_silent_for_longest() {
        let seats = Seats::new(3);
        let [first, second, third] = [seats.take().await, seats.take().await, seats.take().await];
        // The first one asked something meanwhile, so the second one has been silent for longest; the third asks.
        drop(first.asks());
        let asking = third.asks();
        let mut next = Box::pin(seats.take());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([&first, &second, &third].map(|it| it.moved.is_cancelled()), [false, true, false]);
        drop(second);
        let fourth = next.await;
        let fifth = Box::pin(seats.take()).now_or_never();
        assert!(fifth.is_none() && first.moved.is_cancelled() && !fourth.moved.is_cancelled() && !third.moved.is_cancelled());
        drop(asking);
    }

    #[tokio::test]
    async fn where_everyone_asks_who_comes_waits_for_the_first_who_is_done() {
        let seats = Seats::new(1);
        let only = seats.take().await;
        let asking = only.asks();
        let mut next = Box::pin(seats.take());
        assert!(next.as_mut().now_or_never().is_none() && !only.moved.is_cancelled());
        drop(asking);
        assert!(next.as_mut().now_or_never().is_none() && only.moved.is_cancelled());
        drop(only);
        next.await;
    }
}
