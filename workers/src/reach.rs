//! Opens the places that the engine's welcome names, tries again those that can't be reached, and pings those
//! that can. What a step finds in its context, and what an announcement says, comes from here.

use crate::{
    hypervisor::Hypervisor,
    steps::{OpenStore, Reach},
    worker::Worker,
};
use async_trait::async_trait;
use longshore_schema::{
    fault::Fault,
    site::{self, Place, Pool},
    wire::WorkerKind,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Places are pinged, or tried again, this often.
const INTERVAL: Duration = Duration::from_secs(10);
/// Asked to look sooner, it does, but not more often than this.
const SOONEST: Duration = Duration::from_secs(1);
/// A place that hasn't answered by then isn't reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens places on this host. Resolves their secrets; a fault's message never holds one.
#[async_trait]
pub trait Opener: Send + Sync + 'static {
    /// Opens a pool of this worker's kind.
    async fn pool(&self, pool: &Pool) -> Result<Arc<dyn Hypervisor>, Fault>;

    /// Opens a store, whose `store.json` must name this incarnation.
    async fn store(&self, store: &site::Store, incarnation: uuid::Uuid) -> Result<OpenStore, Fault>;
}

/// What is reached, and what isn't although it should be.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) reach: Arc<Reach>,
    /// Reasons by the place's name.
    pub(crate) problems: BTreeMap<String, String>,
}

impl View {
    /// Whether an announcement of the other would be the same.
    pub(crate) fn says_the_same(&self, other: &View) -> bool {
        let same = |one: &Reach, two: &Reach| {
            one.pools.len() == two.pools.len()
                && one.stores.len() == two.stores.len()
                && one.pools.keys().all(|name| two.pools.contains_key(name))
                && one.stores.keys().all(|name| two.stores.contains_key(name))
        };
        self.problems == other.problems && same(&self.reach, &other.reach)
    }
}

#[derive(Clone)]
enum Opened {
    Pool(Arc<dyn Hypervisor>),
    Store(OpenStore),
}

struct Tried {
    place: Place,
    result: Result<Opened, String>,
}

/// Keeps the worker's view of its places current until it is dropped.
pub(crate) async fn keep_reaching(worker: Arc<Worker>, opener: Arc<dyn Opener>) {
    let mut places = worker.places.subscribe();
    let mut tried: Vec<Tried> = vec![];
    loop {
        let wanted = places.borrow_and_update().clone();
        let began = tokio::time::Instant::now();
        if let Some(wanted) = wanted {
            tried = round(worker.config.kind, opener.as_ref(), &wanted, tried).await;
            worker.set_view(view(&tried));
        }
        tokio::select! {
            changed = places.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(INTERVAL) => (),
            () = worker.look_again.notified() => tokio::time::sleep_until(began + SOONEST).await,
        }
    }
}

async fn round(kind: WorkerKind, opener: &dyn Opener, wanted: &[Place], tried: Vec<Tried>) -> Vec<Tried> {
    let tries = wanted.iter().filter(|place| is_for(kind, place)).map(|place| {
        let opened = tried.iter().find(|it| it.place == *place).and_then(|it| it.result.clone().ok());
        async move {
            let result = match tokio::time::timeout(PATIENCE, reach(opener, place, opened)).await {
                Ok(result) => result.map_err(|fault| fault.to_string()),
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            Tried { place: place.clone(), result }
        }
    });
    futures::future::join_all(tries).await
}

async fn reach(opener: &dyn Opener, place: &Place, opened: Option<Opened>) -> Result<Opened, Fault> {
    match (opened, place) {
        (Some(Opened::Pool(pool)), _) if pool.ping().await.is_ok() => Ok(Opened::Pool(pool)),
        (Some(Opened::Store(open)), _) if open.store.ping().await.is_ok() => Ok(Opened::Store(open)),
        // What no longer answers as it was opened may be there anew: a share that was mounted again, another folder.
        (_, Place::Pool(pool)) => opener.pool(pool).await.map(Opened::Pool),
        (_, Place::Store { store, incarnation }) => opener.store(store, *incarnation).await.map(Opened::Store),
    }
}

/// Whether a worker of this kind has a use for the place.
fn is_for(kind: WorkerKind, place: &Place) -> bool {
    match (kind, place) {
        (WorkerKind::Kvm | WorkerKind::Transfer, Place::Store { .. }) => true,
        (kind, Place::Pool(pool)) => match (kind, pool.hypervisor) {
            (WorkerKind::Kvm, site::Hypervisor::Kvm) => true,
            (WorkerKind::Transfer, site::Hypervisor::Kvm) => false,
        },
    }
}

fn view(tried: &[Tried]) -> View {
    let (mut reach, mut problems) = (Reach::default(), BTreeMap::new());
    for it in tried {
        let name = name(&it.place).to_owned();
        match &it.result {
            Ok(Opened::Pool(pool)) => drop(reach.pools.insert(name, pool.clone())),
            Ok(Opened::Store(store)) => drop(reach.stores.insert(name, store.clone())),
            Err(reason) => drop(problems.insert(name, reason.clone())),
        }
    }
    View { reach: Arc::new(reach), problems }
}

fn name(place: &Place) -> &str {
    match place {
        Place::Pool(pool) => &pool.name,
        Place::Store { store, .. } => &store.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, Put, PutMode, Store};
    use bytes::Bytes;
    use futures::stream::BoxStream;
    use longshore_schema::fault::code;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

    /// A place that opens and answers while it is up. Only `ping` is asked of it here.
    #[derive(Default)]
    struct Site {
        up: Arc<AtomicBool>,
        opens: AtomicU32,
    }

    struct Pinged(Arc<AtomicBool>);

    fn away() -> Fault {
        Fault::transient(code::STORE_UNAVAILABLE, "away")
    }

    #[async_trait]
    impl Store for Pinged {
        async fn put(&self, _: &str, _: Bytes, _: PutMode) -> Result<Put, Fault> {
            Err(away())
        }
        async fn get(&self, _: &str, _: std::ops::Range<u64>) -> Result<Bytes, Fault> {
            Err(away())
        }
        async fn head(&self, _: &str) -> Result<Option<Entry>, Fault> {
            Err(away())
        }
        fn list(&self, _: &str) -> BoxStream<'_, Result<Entry, Fault>> {
            Box::pin(futures::stream::empty())
        }
        async fn delete(&self, _: &str) -> Result<(), Fault> {
            Err(away())
        }
        async fn unfinished(&self, _: &str) -> Result<Vec<Entry>, Fault> {
            Err(away())
        }
        async fn discard_unfinished(&self, _: &str) -> Result<(), Fault> {
            Err(away())
        }
        async fn ping(&self) -> Result<(), Fault> {
            self.0.load(SeqCst).then_some(()).ok_or_else(away)
        }
    }

    #[async_trait]
    impl Opener for Site {
        async fn pool(&self, pool: &Pool) -> Result<Arc<dyn Hypervisor>, Fault> {
            panic!("no worker of this test has a use for pool {}", pool.name)
        }
        async fn store(&self, _: &site::Store, _: uuid::Uuid) -> Result<OpenStore, Fault> {
            self.opens.fetch_add(1, SeqCst);
            self.up
                .load(SeqCst)
                .then(|| OpenStore { store: Arc::new(Pinged(self.up.clone())), extent_size: 1 << 20, checks_bodies: true })
                .ok_or_else(away)
        }
    }

    fn place(url: &str) -> Place {
        let place = serde_json::json!({"role": "store", "name": "s", "url": url, "zone": "z1", "capacity": 1,
            "incarnation": uuid::Uuid::nil()});
        serde_json::from_value(place).unwrap()
    }

    #[tokio::test]
    async fn a_place_is_opened_once_pinged_then_and_opened_again_after_it_was_away() {
        let site = Site::default();
        let wanted = [place("file:///a")];
        let mut tried = vec![];
        for (up, opens) in [(false, 1), (false, 2), (true, 3), (true, 3), (false, 4), (true, 5)] {
            site.up.store(up, SeqCst);
            tried = round(WorkerKind::Transfer, &site, &wanted, tried).await;
            let view = view(&tried);
            assert_eq!(view.reach.stores.contains_key("s"), up);
            assert_eq!(view.problems.get("s").map(String::as_str), (!up).then_some("store.unavailable: away"));
            assert_eq!(site.opens.load(SeqCst), opens);
        }
    }

    #[tokio::test]
    async fn a_place_that_changed_is_opened_again_and_one_that_went_is_forgotten() {
        let site = Site::default();
        site.up.store(true, SeqCst);
        let tried = round(WorkerKind::Transfer, &site, &[place("file:///a")], vec![]).await;
        let tried = round(WorkerKind::Transfer, &site, &[place("file:///b")], tried).await;
        assert_eq!(site.opens.load(SeqCst), 2);
        let tried = round(WorkerKind::Transfer, &site, &[], tried).await;
        assert!(view(&tried).says_the_same(&View::default()));
    }

    #[test]
    fn a_pool_is_for_workers_of_its_kind_only() {
        let pool = serde_json::json!({"role": "pool", "name": "p", "zone": "z1", "hypervisor": "kvm", "url": "file:///p",
            "capacity": 1});
        let pool = serde_json::from_value(pool).unwrap();
        assert_eq!(WorkerKind::ALL.iter().map(|kind| is_for(*kind, &pool)).collect::<Vec<_>>(), [true, false]);
    }
}
