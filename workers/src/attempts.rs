//! What this process knows about attempts: those that it has in hand, and a bounded memory of those that it
//! had. Messages are doubled and delivered again; this decides what each copy means.
//!
//! **Invariant**: an attempt is in hand at most once, and a short one that began here never begins here again.

use crate::lease::Lease;
use longshore_courier::Receipt;
use longshore_schema::{
    fault::Fault,
    step::{Attempt, Pace},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// How many attempts are remembered. One that was forgotten is declined when it is delivered again.
const REMEMBERED: usize = 10_000;

/// Shared by the consumers, the control queue and the attempts' own tasks.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_hand: HashMap<Attempt, InHand>,
    memory: HashMap<Attempt, Fate>,
    /// The order in which `memory` was filled.
    order: VecDeque<Attempt>,
}

#[derive(Debug)]
struct InHand {
    /// Of all copies of its message that arrived and aren't settled.
    receipts: Vec<Receipt>,
    /// Whether its message was acknowledged: later copies are too.
    settled: bool,
    word: watch::Sender<Option<Word>>,
    /// Once it began.
    lease: Option<Arc<Lease>>,
}

/// How far an attempt got in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was received and never started.
    Untouched,
    /// It was started.
    Begun,
    /// It was started, and its report was confirmed.
    Reported,
}

/// What the engine said about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It starts now, at this pace.
    Go(Pace),
    /// It doesn't start, or stops.
    Stop,
}

/// What is to be done about a delivered attempt.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is this process's to do.
    New(Hand),
    /// Nothing: it is in hand already, or over.
    Known,
    /// It may have been started elsewhere: decline it, then settle it.
    Unsure(Receipt),
}

/// One attempt in hand. Dropping it gives its unsettled messages back.
#[derive(Debug)]
pub(crate) struct Hand {
    attempts: Arc<Attempts>,
    attempt: Attempt,
    word: watch::Receiver<Option<Word>>,
}

impl Attempts {
    /// Decides about one delivery.
    pub(crate) fn take(self: &Arc<Attempts>, attempt: Attempt, pace: Pace, redelivered: bool, receipt: Receipt) -> Taken {
        let mut state = self.lock();
        if let Some(known) = state.in_hand.get_mut(&attempt) {
            if known.settled {
                receipt.ack();
            } else {
                known.receipts.push(receipt);
            }
            return Taken::Known;
        }
        match (pace, state.memory.get(&attempt), redelivered) {
            (_, Some(Fate::Reported), _) => {
                receipt.ack();
                return Taken::Known;
            }
            (Pace::Short { .. }, Some(Fate::Begun), _) | (Pace::Short { .. }, None, true) => return Taken::Unsure(receipt),
            // Whether a long one starts is the engine's word, not this process's memory.
            (Pace::Long { .. }, Some(Fate::Begun | Fate::Untouched) | None, _)
            | (Pace::Short { .. }, Some(Fate::Untouched), _)
            | (Pace::Short { .. }, None, false) => (),
        }
        state.remember(attempt, Fate::Untouched);
        let (word, heard) = watch::channel(None);
        state.in_hand.insert(attempt, InHand { receipts: vec![receipt], settled: false, word, lease: None });
        Taken::New(Hand { attempts: self.clone(), attempt, word: heard })
    }

    /// The engine said something about an attempt. Whether it is in hand.
    pub(crate) fn word(&self, attempt: Attempt, word: Word) -> bool {
        let state = self.lock();
        let Some(known) = state.in_hand.get(&attempt) else { return false };
        match (word, &known.lease) {
            (Word::Stop, Some(lease)) => lease.stop(Fault::cancelled("the engine asked to stop")),
            (Word::Go(_) | Word::Stop, _) => (),
        }
        // A stop is final: a late or doubled word to go doesn't undo it.
        known.word.send_if_modified(|said| {
            let news = *said != Some(Word::Stop);
            if news {
                *said = Some(word);
            }
            news
        });
        true
    }

    /// Stops everything that began and hasn't ended.
    pub(crate) fn stop_all(&self, why: &Fault) {
        for lease in self.lock().in_hand.values().filter_map(|it| it.lease.as_ref()) {
            lease.stop(why.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, attempt: Attempt, fate: Fate) {
        if self.memory.insert(attempt, fate).is_none() {
            self.order.push_back(attempt);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.memory.remove(&oldest);
            }
        }
    }
}

impl Hand {
    /// What the engine says, once it does.
    pub(crate) async fn word(&mut self) -> Word {
        match self.word.wait_for(Option::is_some).await.map(|said| *said) {
            Ok(Some(word)) => word,
            // Not while this hand lives, which keeps the sender in the table.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Resolves when the engine says that it must not start.
    pub(crate) async fn stopped(&mut self) {
        if self.word.wait_for(|said| *said == Some(Word::Stop)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// It starts now, under this lease.
    pub(crate) fn begin(&self, lease: &Arc<Lease>) {
        let mut state = self.attempts.lock();
        state.remember(self.attempt, Fate::Begun);
        if let Some(known) = state.in_hand.get_mut(&self.attempt) {
            if *known.word.borrow() == Some(Word::Stop) {
                lease.stop(Fault::cancelled("the engine asked to stop"));
            }
            known.lease = Some(lease.clone());
        }
    }

    /// Acknowledges its message, all copies of it.
    pub(crate) fn settle(&self) {
        if let Some(known) = self.attempts.lock().in_hand.get_mut(&self.attempt) {
            known.settled = true;
            known.receipts.drain(..).for_each(Receipt::ack);
        }
    }

    /// Its report is confirmed.
    pub(crate) fn reported(&self) {
        self.attempts.lock().remember(self.attempt, Fate::Reported);
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let dropped = self.attempts.lock().in_hand.remove(&self.attempt);
        // Outside of the lock: giving receipts back calls the courier.
        drop(dropped);
    }
}
