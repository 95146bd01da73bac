//! Of many who ask several engines at once, on PostgreSQL and RabbitMQ, exactly those get the last bytes of a place that fit. It is
//! about what is granted: the object that they ask for is only a row, and there is no worker that would fill what they got.

use longshore_courier::{Courier, Parcel, Properties, Queue};
use longshore_engine::{
    audit, books,
    config::Config,
    database::{self, Database, Failed},
    engine,
    ledger::Ledger,
    site,
};
use longshore_schema::{
    fault::code,
    ids::OperationId,
    site::Site,
    tables::{claim, operation, place},
    wire::{Announce, Reply, Report, names},
};
use longshore_tests::services::Services;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Bytes that a volume of a MiB books.
const BOOKED: u64 = (1 << 20) + 512 + (1 << 20);
/// How many of them fit.
const FIT: u64 = 37;
const ASK: usize = 200;

/// Four engines on one database of a server and one virtual host of a broker, and who asks them.
struct Crowd {
    database: Database,
    control: Arc<dyn Courier>,
    stop: CancellationToken,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Crowd {
    /// With a pool of that capacity.
    async fn new(capacity: u64) -> Crowd {
        let services = Services::from_env();
        let (url, broker) = (services.fresh_database().await, services.fresh_vhost().await);
        let database = Database::open(&url).await.unwrap();
        let text = format!(
            "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n\
             [[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"1 TiB\"\nurl = \"file:///srv/store\"\n\
             [[pool]]\nname = \"fast\"\nzone = \"z1\"\nhypervisor = \"kvm\"\nurl = \"file:///srv/pool\"\ncapacity = {capacity}\n",
        );
        let known = site::read(database.read()).await.unwrap();
        site::apply(&database, &known, &Site::parse(&text).unwrap()).await.unwrap().unwrap();
        let stop = CancellationToken::new();
        for _ in 0..4 {
            let database = Database::connect(&url).await.unwrap();
            let courier = longshore_courier::open(&broker, "engine").await.unwrap();
            tokio::spawn(engine::run(database, courier, Config::default(), stop.clone()));
        }
        let control = longshore_courier::open(&broker, "control").await.unwrap();
        let crowd = Crowd { database, control, stop };
        let replies = Queue::Own { name: "replies".into(), exchange: String::new(), routing_keys: vec![] };
        crowd.control.declare(&[replies]).await.unwrap();
        crowd.announce().await;
        crowd
    }

    async fn announce(&self) {
        let announced = json!({"worker": "h1-kvm", "incarnation": uuid::Uuid::nil(), "kind": "kvm", "host": "h1", "zone": "z1",
            "version": "0", "tools": {}, "pools": ["fast"], "stores": ["main"], "concurrency": 2});
        let announced: Announce = serde_json::from_value(announced).unwrap();
        let report = Report::Announce(announced);
        let parcel = parcel(names::REPORTS, "h1-kvm", Properties::default(), json!(report));
        // Until an engine has declared its queues.
        let sent = async {
            while self.control.publish(vec![parcel.clone()]).await.remove(0).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, sent).await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let heard = async {
            loop {
                let now = database::now(self.database.read()).await.unwrap();
                if !audit::workers(self.database.read(), now).await.unwrap().is_empty() {
                    return;
                }
                ticks.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, heard).await.unwrap();
    }

    /// A Ready object of a MiB.
    async fn object(&self) -> OperationId {
        let (id, now) = (OperationId::new(), database::now(self.database.read()).await.unwrap().0);
        let root = json!({"attempt": 1, "digest": "0".repeat(64), "bytes": 100});
        let row = operation::Model {
            id: id.0,
            kind: "backup-snapshot".into(),
            zone: "z1".into(),
            tenant: "default".into(),
            user_name: None,
            name: None,
            subject: Some("fast/disk".into()),
            store: Some("main".into()),
            state: "ready".into(),
            end_state: None,
            waiting_for: None,
            waiting_place: None,
            waiting_bytes: 0,
            waiting_since: None,
            params: json!({}),
            plan: json!({"steps": [], "claims": [], "uses": []}),
            output: Some(json!({"virtual_size": 1 << 20, "zeros": 0, "root": root, "extent_size": 65536})),
            fault: None,
            priority: 0,
            deadline: now,
            stop_requested: false,
            destroy_requested: false,
            needs_attention: false,
            holders: 0,
            version: 1,
            digest: vec![],
            created_at: now,
            updated_at: now,
            last_used_at: now,
        };
        let insert = operation::Entity::insert(operation::ActiveModel::from(row).reset_all());
        let done = self.database.transact(|tx| Box::pin(async move { Ok(insert.exec_without_returning(tx).await?) }));
        done.await.unwrap();
        id
    }

    /// Asks for that many volumes at once; the answers.
    async fn ask(&self, from: OperationId, many: usize) -> Vec<Reply> {
        let asks = (0..many).map(|n| {
            let properties = Properties {
                message_id: Some(format!("m{n}")),
                reply_to: Some("replies".into()),
                persistent: true,
                ..Properties::default()
            };
            let body = json!({"zone": "z1", "from": from, "pool": "fast", "volume": format!("v{n}"), "when_full": "refuse"});
            parcel(names::COMMANDS, "create-volume", properties, body)
        });
        let sent = self.control.publish(asks.collect()).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        let mut inbox = self.control.consume("replies", 100).await.unwrap();
        let mut replies = vec![];
        while replies.len() < many {
            let delivery = tokio::time::timeout(LIMIT, inbox.next()).await.expect("an answer").unwrap();
            replies.push(serde_json::from_slice(&delivery.parcel.body).unwrap());
            delivery.receipt.ack();
        }
        replies
    }
}

fn parcel(exchange: &str, routing_key: &str, properties: Properties, body: Value) -> Parcel {
    let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
    Parcel { exchange, routing_key, mandatory: true, properties, body: body.to_string().into() }
}

/// Without luck: both have read what is left before one of them writes.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_that_saw_the_same_last_bytes_one_commits_and_the_other_reads_again() {
    let crowd = Crowd::new(2 * BOOKED - 1).await;
    let both_read = Arc::new(tokio::sync::Barrier::new(2));
    let grant = || {
        let both_read = both_read.clone();
        crowd.database.transact(move |tx| {
            Box::pin(async move {
                let mut ledger = Ledger::default();
                let bytes = i64::try_from(BOOKED).expect("a few MiB");
                let granted = ledger.reserve(tx, "fast", bytes, bytes, 0).await?.is_ok();
                both_read.wait().await;
                ledger.flush(tx).await?;
                Ok(granted)
            })
        })
    };
    let ended = tokio::time::timeout(LIMIT, async { tokio::join!(grant(), grant()) }).await.expect("neither waits for the other");
    let ((Ok(true), Err(Failed::Conflict(why))) | (Err(Failed::Conflict(why)), Ok(true))) = ended else { panic!("{ended:?}") };
    assert!(why.contains("the last bytes of fast"), "{why}");
    let pool = place::Entity::find().filter(place::Column::Name.eq("fast")).one(crowd.database.read()).await.unwrap().unwrap();
    assert_eq!(pool.reserved, BOOKED as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_who_ask_four_engines_at_once_exactly_those_get_the_last_bytes_that_fit() {
    // Not quite enough for one more.
    let crowd = Crowd::new((FIT + 1) * BOOKED - 1).await;
    let object = crowd.object().await;
    let replies = crowd.ask(object, ASK).await;
    let accepted = replies.iter().filter(|it| it.accepted).count();
    let codes = replies.iter().filter_map(|it| Some(it.fault.as_ref()?.code.as_str()));
    let codes = codes.fold(BTreeMap::<&str, usize>::new(), |mut codes, it| {
        *codes.entry(it).or_default() += 1;
        codes
    });
    assert_eq!((accepted, codes), (FIT as usize, BTreeMap::from([(code::POOL_FULL, ASK - FIT as usize)])));
    let db = crowd.database.read();
    let pool = place::Entity::find().filter(place::Column::Name.eq("fast")).one(db).await.unwrap().unwrap();
    let booked = (FIT * BOOKED) as i64;
    assert_eq!((pool.reserved, pool.promised, pool.used), (booked, booked, 0));
    assert_eq!(claim::Entity::find().count(db).await.unwrap(), FIT, "who was refused holds nothing");
    let holders = operation::Entity::find_by_id(object.0).one(db).await.unwrap().unwrap().holders;
    assert_eq!(holders, FIT as i32);
    let wrong: Vec<_> = books::read(db).await.unwrap().into_iter().filter(|it| !it.agree()).collect();
    assert_eq!(wrong, []);
}
