//! Marks in time of what one operation waits for: its messages, its transactions, and what is read to plan it. The engine's spans
//! are `tracing`'s, at the level of debugging: without somebody who listens they are nothing.

use bytes::Bytes;
use longshore_courier::Parcel;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::{
    Subscriber,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, filter_fn},
    layer::{Context, SubscriberExt},
};

/// What is waited for. Of several at the same time the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What a plan is made from is read; that is in the command's transaction.
    Reading,
    /// A transaction that writes, from when it is asked for until its end is known.
    Transaction,
    /// A message, from when it is published until it has arrived.
    Message,
}

/// Something that was waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Which part.
    pub part: Part,
    /// The exchange of a message, the name of a span.
    pub what: String,
    /// Its beginning.
    pub from: Instant,
    /// Its end.
    pub to: Instant,
}

/// All that was marked in this process.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Mutex<Marked>>);

#[derive(Debug, Default)]
struct Marked {
    /// Messages on their way, by their bodies. Those that nobody takes stay here.
    sent: HashMap<Bytes, Instant>,
    /// Spans that have begun.
    begun: HashMap<u64, (Part, &'static str, Instant)>,
    over: Vec<Interval>,
}

impl Part {
    /// Of a span, by the module that it is in.
    fn of_span(target: &str) -> Option<Part> {
        match target {
            "longshore_engine::database" => Some(Part::Transaction),
            "longshore_engine::world_read" => Some(Part::Reading),
            _ => None,
        }
    }
}

impl Interval {
    /// How long it took.
    pub fn took(&self) -> Duration {
        self.to - self.from
    }
}

impl Marks {
    /// What marks the engine's spans, and prints what `filter` lets through on standard error.
    pub fn subscriber(self, filter: EnvFilter) -> impl Subscriber + Send + Sync {
        let spans = filter_fn(|it| it.is_span() && Part::of_span(it.target()).is_some());
        let said = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
        let marks = self.with_filter(spans.with_max_level_hint(LevelFilter::DEBUG));
        tracing_subscriber::registry().with(said).with(marks)
    }

    /// These are published now.
    pub(super) fn published(&self, parcels: &[Parcel]) {
        let (now, mut marked) = (Instant::now(), self.marked());
        marked.sent.extend(parcels.iter().map(|parcel| (parcel.body.clone(), now)));
    }

    /// This has arrived now.
    pub(super) fn arrived(&self, parcel: &Parcel) {
        let mut marked = self.marked();
        if let Some(from) = marked.sent.remove(&parcel.body) {
            let what = parcel.exchange.clone();
            marked.over.push(Interval { part: Part::Message, what, from, to: Instant::now() });
        }
    }

    /// What was over until now, by its beginning, and forgets it.
    pub fn take(&self) -> Vec<Interval> {
        let mut over = std::mem::take(&mut self.marked().over);
        over.sort_by_key(|it| it.from);
        over
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Marks {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        if let Some(part) = Part::of_span(metadata.target()) {
            self.marked().begun.insert(id.into_u64(), (part, metadata.name(), Instant::now()));
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut marked = self.marked();
        if let Some((part, what, from)) = marked.begun.remove(&id.into_u64()) {
            marked.over.push(Interval { part, what: what.to_owned(), from, to: Instant::now() });
        }
    }
}

/// How long each part was waited for in a time, in the order of `Part`, and at the end how long none was.
pub fn divide(intervals: &[Interval], from: Instant, to: Instant) -> [Duration; 4] {
    let edges = intervals.iter().flat_map(|it| [it.from, it.to]).map(|it| it.clamp(from, to));
    let mut edges: Vec<Instant> = edges.chain([from, to]).collect();
    edges.sort();
    let mut shares = [Duration::ZERO; 4];
    for (start, end) in edges.iter().zip(&edges[1..]) {
        let waited = intervals.iter().filter(|it| it.from <= *start && it.to >= *end).map(|it| it.part).min();
        shares[waited.map_or(3, |part| part as usize)] += *end - *start;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_divided_without_rest_and_what_lies_within_another_counts_once() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let interval = |part, from, to| Interval { part, what: String::new(), from: at(from), to: at(to) };
        let intervals = [
            interval(Part::Message, 0, 12),
            interval(Part::Transaction, 13, 20),
            interval(Part::Reading, 14, 16),
            interval(Part::Message, 19, 23),
            interval(Part::Message, 40, 50),
        ];
        let shares = divide(&intervals, at(10), at(30)).map(|it| it.as_millis());
        assert_eq!(shares, [2, 5, 5, 8]);
        assert_eq!(divide(&[], at(10), at(30)), [Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::from_millis(20)]);
    }
}
