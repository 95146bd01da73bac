//! A store that fails as it is told: to show that what stands above a store survives what a store may do.

use super::{Entry, Put, PutMode, Store};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use longshore_schema::fault::Fault;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `Store::put`.
    Put,
    /// `Store::get`.
    Get,
    /// `Store::head`.
    Head,
    /// `Store::list`.
    List,
    /// `Store::delete`.
    Delete,
    /// `Store::ping`.
    Ping,
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Harm {
    /// It isn't done, and fails.
    Fail(Fault),
    /// It is done, and fails all the same: nobody knows.
    DoneButFails(Fault),
    /// A get, or a put's body, loses everything from this byte on. A store would never say so.
    Truncate(usize),
    /// One bit of what is read or written is exchanged: counted from the first, modulo the length.
    Flip(usize),
    /// It waits until the gate opens, and is done then.
    Stall(Gate),
}

/// When a harm happens.
#[derive(Debug, Clone)]
pub struct Rule {
    /// To which kind of request.
    pub verb: Verb,
    /// Only to keys, or prefixes of lists, that contain this.
    pub key: String,
    /// To which of them: from this, counted from 0, …
    pub from: usize,
    /// … for so many.
    pub times: usize,
    /// What.
    pub harm: Harm,
}

impl Rule {
    /// Harms the `nth` request of a kind, from 0, whatever its key.
    pub fn nth(verb: Verb, nth: usize, harm: Harm) -> Rule {
        Rule { verb, key: String::new(), from: nth, times: 1, harm }
    }

    /// Harms every request of a kind whose key contains `key`.
    pub fn always(verb: Verb, key: &str, harm: Harm) -> Rule {
        Rule { verb, key: key.to_owned(), from: 0, times: usize::MAX, harm }
    }
}

/// Holds requests until it is opened, and says that one is waiting.
#[derive(Debug, Clone)]
pub struct Gate {
    waiting: Arc<watch::Sender<usize>>,
    open: Arc<watch::Sender<bool>>,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate { waiting: Arc::new(watch::Sender::new(0)), open: Arc::new(watch::Sender::new(false)) }
    }
}

impl Gate {
    /// Resolves once `n` requests have arrived at the gate.
    pub async fn reached(&self, n: usize) {
        // The sender lives as long as this gate, so there is always an answer.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting >= n).await;
    }

    /// Lets through all that wait, and all that come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    async fn pass(&self) {
        let mut open = self.open.subscribe();
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _ = open.wait_for(|open| *open).await;
    }
}

/// A store and the harm that is planned for it.
pub struct Flaky {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    /// With how many requests of each were seen.
    rules: Vec<(Rule, usize)>,
    random: Option<(StdRng, f64, Fault)>,
    log: Vec<(Verb, String)>,
}

impl Flaky {
    /// Harms by rules; of several that fit, the first decides.
    pub fn scripted(inner: Arc<dyn Store>, rules: Vec<Rule>) -> Flaky {
        let flaky = Flaky { inner, plan: Mutex::default() };
        flaky.lock().rules = rules.into_iter().map(|rule| (rule, 0)).collect();
        flaky
    }

    /// Each request fails with the probability `chance`: half of them undone, half of them done. The same seed
    /// and the same order of requests give the same faults.
    pub fn seeded(inner: Arc<dyn Store>, seed: u64, chance: f64, fault: Fault) -> Flaky {
        let flaky = Flaky { inner, plan: Mutex::default() };
        flaky.lock().random = Some((StdRng::seed_from_u64(seed), chance, fault));
        flaky
    }

    /// One more rule, after the others.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push((rule, 0));
    }

    /// From here on everything works.
    pub fn heal(&self) {
        let mut plan = self.lock();
        plan.rules.clear();
        plan.random = None;
    }

    /// All requests so far, in order of their arrival, with their keys or prefixes.
    pub fn log(&self) -> Vec<(Verb, String)> {
        self.lock().log.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn harm(&self, verb: Verb, key: &str) -> Option<Harm> {
        let mut plan = self.lock();
        plan.log.push((verb, key.to_owned()));
        let mut chosen = None;
        for (rule, seen) in &mut plan.rules {
            if rule.verb == verb && key.contains(&rule.key) {
                let due = *seen >= rule.from && *seen - rule.from < rule.times;
                *seen += 1;
                if due && chosen.is_none() {
                    chosen = Some(rule.harm.clone());
                }
            }
        }
        if let (None, Some((random, chance, fault))) = (&chosen, &mut plan.random)
            && random.random_bool(*chance)
        {
            let fault = fault.clone();
            chosen = Some(if random.random() { Harm::Fail(fault) } else { Harm::DoneButFails(fault) });
        }
        chosen
    }

    async fn run<T>(&self, harm: Option<Harm>, request: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match harm {
            Some(Harm::Fail(fault)) => Err(fault),
            Some(Harm::DoneButFails(fault)) => request.await.and(Err(fault)),
            Some(Harm::Stall(gate)) => {
                gate.pass().await;
                request.await
            }
            Some(Harm::Truncate(_) | Harm::Flip(_)) | None => request.await,
        }
    }
}

fn damaged(body: Bytes, harm: &Option<Harm>) -> Bytes {
    match harm {
        Some(Harm::Truncate(length)) => body.slice(..(*length).min(body.len())),
        Some(Harm::Flip(bit)) if !body.is_empty() => {
            let mut bytes = body.to_vec();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.into()
        }
        Some(Harm::Flip(_) | Harm::Fail(_) | Harm::DoneButFails(_) | Harm::Stall(_)) | None => body,
    }
}

#[async_trait]
impl Store for Flaky {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Fault> {
        let harm = self.harm(Verb::Put, key);
        let body = damaged(body, &harm);
        self.run(harm, self.inner.put(key, body, mode)).await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let harm = self.harm(Verb::Get, key);
        let body = self.run(harm.clone(), self.inner.get(key, range)).await?;
        Ok(damaged(body, &harm))
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>, Fault> {
        self.run(self.harm(Verb::Head, key), self.inner.head(key)).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Entry, Fault>> {
        let entries = self.inner.list(prefix);
        match self.harm(Verb::List, prefix) {
            Some(Harm::Fail(fault)) => stream::iter([Err(fault)]).boxed(),
            Some(Harm::DoneButFails(fault)) => entries.chain(stream::iter([Err(fault)])).boxed(),
            Some(Harm::Truncate(length)) => entries.take(length).boxed(),
            Some(Harm::Stall(gate)) => {
                stream::once(async move { gate.pass().await }).flat_map(|()| stream::empty()).chain(entries).boxed()
            }
            Some(Harm::Flip(_)) | None => entries,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.run(self.harm(Verb::Delete, key), self.inner.delete(key)).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Entry>, Fault> {
        self.run(self.harm(Verb::List, prefix), self.inner.unfinished(prefix)).await
    }

    async fn discard_unfinished(&self, key: &str) -> Result<(), Fault> {
        self.run(self.harm(Verb::Delete, key), self.inner.discard_unfinished(key)).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.run(self.harm(Verb::Ping, ""), self.inner.ping()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::FileStore;
    use futures::TryStreamExt;
    use longshore_schema::fault::code;

    async fn file() -> (tempfile::TempDir, Arc<dyn Store>) {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).await.unwrap();
        (directory, Arc::new(store))
    }

    fn away() -> Fault {
        Fault::transient(code::STORE_UNAVAILABLE, "as planned")
    }

    async fn put(store: &dyn Store, key: &str) -> Result<Put, Fault> {
        store.put(key, Bytes::from_static(b"12345678"), PutMode::Create).await
    }

    #[tokio::test]
    async fn the_chosen_requests_fail_and_no_others() {
        let (_directory, inner) = file().await;
        let of_b = Rule { verb: Verb::Put, key: "b".to_owned(), from: 1, times: 2, harm: Harm::Fail(away()) };
        let store = Flaky::scripted(inner, vec![Rule::nth(Verb::Put, 1, Harm::DoneButFails(away())), of_b]);
        let mut ends = vec![];
        for key in ["a", "a2", "b0", "b1", "c", "b2", "b3"] {
            ends.push(put(&store, key).await.is_ok());
        }
        assert_eq!(ends, [true, false, true, false, true, false, true]);
        let there: Vec<_> = store.list("").map_ok(|it| it.key).try_collect().await.unwrap();
        assert!(there.contains(&"a2".to_owned()) && !there.contains(&"b1".to_owned()), "{there:?}");
        store.heal();
        assert_eq!(put(&store, "b2").await.unwrap(), Put::Written);
    }

    #[tokio::test]
    async fn bodies_lose_bytes_and_change_bits() {
        let (_directory, inner) = file().await;
        let rules = vec![Rule::nth(Verb::Get, 0, Harm::Truncate(3)), Rule::nth(Verb::Get, 1, Harm::Flip(9))];
        let store = Flaky::scripted(inner, rules);
        put(&store, "a").await.unwrap();
        assert_eq!(store.get("a", 0..8).await.unwrap(), "123");
        assert_eq!(store.get("a", 0..8).await.unwrap(), "10345678");
        assert_eq!(store.get("a", 0..8).await.unwrap(), "12345678");
    }

    #[tokio::test]
    async fn a_stalled_request_waits_for_its_gate() {
        let (_directory, inner) = file().await;
        let gate = Gate::default();
        let store = Arc::new(Flaky::scripted(inner.clone(), vec![Rule::nth(Verb::Put, 0, Harm::Stall(gate.clone()))]));
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { put(&*store, "a").await }
        });
        gate.reached(1).await;
        assert_eq!(inner.head("a").await.unwrap(), None);
        gate.open();
        assert_eq!(waiting.await.unwrap().unwrap(), Put::Written);
    }

    #[tokio::test]
    async fn one_seed_gives_one_sequence_of_faults() {
        let mut runs = vec![];
        for seed in [7, 7, 8] {
            let (_directory, inner) = file().await;
            let store = Flaky::seeded(inner, seed, 0.5, away());
            let mut ends = vec![];
            for n in 0..64 {
                ends.push(put(&store, &format!("k{n}")).await.is_ok());
            }
            assert!(ends.contains(&true) && ends.contains(&false));
            runs.push(ends);
        }
        assert!(runs[0] == runs[1] && runs[1] != runs[2]);
    }
}
