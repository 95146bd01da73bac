//! What this process knows about attempts: those that it has in hand, and a bounded memory of those that it
//! had. Messages are doubled and delivered again; this decides what each copy means.
//!
//! **Invariant**: an attempt is in hand at most once, and a short one that began here never begins here again.

use crate::{
    fate::{self, Fate, Meaning},
    lease::Lease,
};
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
use tokio_util::task::task_tracker::TaskTrackerToken;

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

/// A delivery that isn't settled, counted until it is. Dropping it gives the message back.
#[derive(Debug)]
pub(crate) struct Unsettled {
    receipt: Receipt,
    _counted: TaskTrackerToken,
}

#[derive(Debug)]
struct InHand {
    /// All copies of its message that arrived.
    unsettled: Vec<Unsettled>,
    /// Whether its message was acknowledged: later copies are too.
    settled: bool,
    word: watch::Sender<Option<Word>>,
    /// Of its start: an answer to another one isn't for it.
    token: u64,
    /// Once it began.
    lease: Option<Arc<Lease>>,
}

/// What the engine said about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It starts now, at this pace: so says the answer to the start with that token.
    Go(Pace, Option<u64>),
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
    Unsure(Unsettled),
}

/// One attempt in hand. Dropping it gives its unsettled messages back.
#[derive(Debug)]
pub(crate) struct Hand {
    attempts: Arc<Attempts>,
    attempt: Attempt,
    token: u64,
    word: watch::Receiver<Option<Word>>,
}

impl Unsettled {
    pub(crate) fn new(receipt: Receipt, counted: TaskTrackerToken) -> Unsettled {
        Unsettled { receipt, _counted: counted }
    }

    /// Takes the message out of its queue.
    pub(crate) fn ack(self) {
        self.receipt.ack();
    }
}

impl Attempts {
    /// Decides about one delivery.
    pub(crate) fn take(self: &Arc<Attempts>, attempt: Attempt, pace: Pace, redelivered: bool, copy: Unsettled) -> Taken {
        let mut state = self.lock();
        if let Some(known) = state.in_hand.get_mut(&attempt) {
            if known.settled {
                copy.ack();
            } else {
                known.unsettled.push(copy);
            }
            return Taken::Known;
        }
        match fate::meaning(pace, state.memory.get(&attempt).copied(), redelivered) {
            Meaning::Over => {
                copy.ack();
                return Taken::Known;
            }
            Meaning::Unsure => return Taken::Unsure(copy),
            Meaning::New => (),
        }
        state.remember(attempt, Fate::Untouched);
        let (word, heard) = watch::channel(None);
        // I-JSON has whole numbers of 53 bits.
        let token = rand::random::<u64>() >> 11;
        state.in_hand.insert(attempt, InHand { unsettled: vec![copy], settled: false, word, token, lease: None });
        Taken::New(Hand { attempts: self.clone(), attempt, token, word: heard })
    }

    /// The engine said something about an attempt. Whether somebody here hears it, or heard it before.
    pub(crate) fn word(&self, attempt: Attempt, word: Word) -> bool {
        let mut state = self.lock();
        let Some(known) = state.in_hand.get(&attempt) else {
            let reported = state.memory.get(&attempt) == Some(&Fate::Reported);
            match word {
                // It is refused: the engine will take it for ended, so no later copy of its message may begin it.
                Word::Go(..) => state.remember(attempt, Fate::Reported),
                Word::Stop => (),
            }
            return reported;
        };
        match (word, &known.lease) {
            (Word::Stop, Some(lease)) => lease.stop(Fault::cancelled("the engine asked to stop")),
            // A predecessor, or this process when it had another copy in hand, asked for it, and its lease counts from then. The
            // start of this one gets an answer of its own.
            (Word::Go(_, Some(token)), _) if token != known.token => return true,
            (Word::Go(..) | Word::Stop, _) => (),
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
    /// What its start is named by.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

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
            known.unsettled.drain(..).for_each(Unsettled::ack);
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

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_courier::Settle;
    use longshore_schema::{ids::OperationId, step::Way};
    use tokio_util::task::TaskTracker;

    const SHORT: Pace = Pace::Short { bound_s: 1 };
    const LONG: Pace = Pace::Long { lease_s: 1 };

    /// Counts what became of receipts: acknowledged, given back.
    #[derive(Debug, Clone, Default)]
    struct Counts(Arc<Mutex<(u32, u32)>>);

    impl Settle for Counts {
        fn ack(self: Box<Self>) {
            self.0.lock().unwrap().0 += 1;
        }
        fn requeue(self: Box<Self>) {
            self.0.lock().unwrap().1 += 1;
        }
    }

    impl Counts {
        fn copy(&self) -> Unsettled {
            Unsettled::new(Receipt::new(Box::new(self.clone())), TaskTracker::new().token())
        }
        fn are(&self, acked: u32, given_back: u32) {
            assert_eq!(*self.0.lock().unwrap(), (acked, given_back));
        }
    }

    fn attempt() -> Attempt {
        Attempt { operation: OperationId::new(), seq: 0, n: 1, way: Way::Do }
    }

    fn lease(attempt: Attempt) -> Arc<Lease> {
        Arc::new(Lease::new(attempt, std::time::Instant::now() + std::time::Duration::from_secs(3600)))
    }

    fn new(taken: Taken) -> Hand {
        match taken {
            Taken::New(hand) => hand,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_copy_of_a_short_step_means_depends_on_how_far_it_got_here() {
        let (attempts, counts, it) = (Arc::<Attempts>::default(), Counts::default(), attempt());
        assert!(matches!(attempts.take(attempt(), SHORT, true, counts.copy()), Taken::Unsure(_)), "never seen");
        counts.are(0, 1);
        drop(new(attempts.take(it, SHORT, false, counts.copy())));
        counts.are(0, 2);
        let hand = new(attempts.take(it, SHORT, true, counts.copy()));
        assert!(matches!(attempts.take(it, SHORT, false, counts.copy()), Taken::Known), "in hand");
        hand.begin(&lease(it));
        drop(hand);
        counts.are(0, 4);
        for redelivered in [false, true] {
            assert!(matches!(attempts.take(it, SHORT, redelivered, counts.copy()), Taken::Unsure(_)), "begun");
        }
        counts.are(0, 6);
    }

    #[test]
    fn copies_are_settled_together_and_later_ones_at_once() {
        let (attempts, counts, it) = (Arc::<Attempts>::default(), Counts::default(), attempt());
        let hand = new(attempts.take(it, LONG, false, counts.copy()));
        attempts.take(it, LONG, true, counts.copy());
        counts.are(0, 0);
        hand.settle();
        counts.are(2, 0);
        attempts.take(it, LONG, true, counts.copy());
        counts.are(3, 0);
        hand.reported();
        drop(hand);
        attempts.take(it, LONG, true, counts.copy());
        counts.are(4, 0);
    }

    #[tokio::test]
    async fn a_stop_is_final_whenever_it_comes() {
        let (attempts, it) = (Arc::<Attempts>::default(), attempt());
        assert!(!attempts.word(it, Word::Stop), "nobody hears it");
        let mut hand = new(attempts.take(it, LONG, false, Counts::default().copy()));
        assert!(attempts.word(it, Word::Go(LONG, None)));
        assert_eq!(hand.word().await, Word::Go(LONG, None));
        assert!(attempts.word(it, Word::Stop));
        assert!(attempts.word(it, Word::Go(LONG, None)));
        assert_eq!(hand.word().await, Word::Stop);
        hand.stopped().await;
        let lease = lease(it);
        hand.begin(&lease);
        lease.check().unwrap_err();
    }

    #[tokio::test]
    async fn an_answer_to_another_start_is_not_heard() {
        let (attempts, it) = (Arc::<Attempts>::default(), attempt());
        let dropped = new(attempts.take(it, LONG, false, Counts::default().copy()));
        let before = dropped.token();
        drop(dropped);
        let mut hand = new(attempts.take(it, LONG, true, Counts::default().copy()));
        assert!(attempts.word(it, Word::Go(LONG, Some(before))), "it isn't refused, either: the answer to this one follows");
        let ours = Word::Go(LONG, Some(hand.token()));
        assert!(attempts.word(it, ours));
        assert_eq!(hand.word().await, ours);
    }

    #[test]
    fn what_was_refused_never_begins_here() {
        let (attempts, counts, it) = (Arc::<Attempts>::default(), Counts::default(), attempt());
        assert!(!attempts.word(it, Word::Go(LONG, None)), "a predecessor asked for it");
        assert!(matches!(attempts.take(it, LONG, true, counts.copy()), Taken::Known));
        counts.are(1, 0);
        assert!(attempts.word(it, Word::Go(LONG, None)), "refused once");
    }

    #[test]
    fn the_memory_is_bounded_and_what_was_forgotten_is_declined() {
        let (attempts, counts, first) = (Arc::<Attempts>::default(), Counts::default(), attempt());
        drop(attempts.take(first, SHORT, false, counts.copy()));
        for _ in 0..REMEMBERED {
            drop(attempts.take(attempt(), SHORT, false, counts.copy()));
        }
        let state = attempts.lock();
        assert_eq!((state.memory.len(), state.order.len(), state.in_hand.len()), (REMEMBERED, REMEMBERED, 0));
        drop(state);
        assert!(matches!(attempts.take(first, SHORT, true, counts.copy()), Taken::Unsure(_)));
    }
}
