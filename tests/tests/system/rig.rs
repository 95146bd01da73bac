//! A whole Longshore in this process: engines, workers, a control plane, a pool and a store, on parts of the
//! test's choice. Waiting is on conditions, with a limit that only a failure reaches.

use futures::future::BoxFuture;
use longshore_courier::{
    Courier, Inbox, Parcel, Properties, Queue,
    embedded::{Chaos, Embedded, Mischief},
};
use longshore_engine::{
    audit::{self, OperationView},
    books,
    config::Config,
    database::Database,
    engine, site,
};
use longshore_schema::{
    ids::OperationId,
    site::Site,
    tables::{claim, hold, operation, pack, place, queue},
    wire::{Announce, Reply, WorkerKind, names},
};
use longshore_tests::{
    services::{Services, unique},
    swift::{self, Login},
};
use longshore_workers::{
    config::Config as WorkerConfig,
    opener::HostOpener,
    reach::Opener,
    steps::{Between, Handlers, handlers},
    store::{Store, description, open, probe},
    worker::Worker,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Who publishes on the tests' broker (`xtask/src/services/rabbitmq.rs`).
const BROKER_USER: &str = "longshore";

/// What a rig is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// SQLite, channels that double, reorder and lose messages as a broker may, a directory.
    Embedded,
    /// SQLite, channels, S3.
    EmbeddedS3,
    /// SQLite, channels, Swift.
    EmbeddedSwift,
    /// PostgreSQL, RabbitMQ, S3.
    Services,
    /// PostgreSQL, RabbitMQ, a directory.
    ServicesDirectory,
}

impl Parts {
    fn has_servers(self) -> bool {
        matches!(self, Parts::Services | Parts::ServicesDirectory)
    }
}

/// How a rig differs from the usual.
pub(crate) struct Options {
    pub(crate) parts: Parts,
    pub(crate) config: Config,
    pub(crate) engines: usize,
    pub(crate) store_capacity: &'static str,
    pub(crate) pool_capacity: &'static str,
    pub(crate) grace_s: u32,
    pub(crate) between: Option<Arc<dyn Between>>,
    /// Where S3 is reached, if not at the server itself.
    pub(crate) endpoint: Option<String>,
    /// Whether the worker has another secret for S3 than the one that the site was applied with.
    pub(crate) wrong_secret: bool,
    /// Whether the channels do no mischief: for tests that count answers or attempts.
    pub(crate) calm: bool,
    /// The part of messages that the channels lose by chance.
    pub(crate) lose: f64,
    /// Opens the worker's places; `None` for those of this host.
    pub(crate) opener: Option<Arc<dyn Opener>>,
    /// The site's `[[user]]` entries. With any, one must be `longshore` on the tests' broker; on an embedded one the rig is the
    /// socket's user, who needs none.
    pub(crate) users: String,
    /// Whether there is a second store, `other`, in a directory, and a second pool, `slow`.
    pub(crate) two: bool,
    /// KiB of an extent of the second store; the first one has 64.
    pub(crate) other_extent_kib: u32,
}

impl Options {
    pub(crate) fn new(parts: Parts) -> Options {
        // Times that let a test see the second try; leases stay long enough for a machine with two busy cores.
        let config = Config {
            start_window_s: 20,
            margin_s: 2,
            lease_s: 9,
            backoff_ms: 20,
            backoff_cap_ms: 200,
            tick_ms: 50,
            sweep_every_s: 1,
            ..Config::default()
        };
        Options {
            parts,
            config,
            engines: 1,
            store_capacity: "10 GiB",
            pool_capacity: "100 GiB",
            grace_s: 0,
            between: None,
            endpoint: None,
            wrong_secret: false,
            calm: false,
            lose: 0.005,
            opener: None,
            users: String::new(),
            two: false,
            other_extent_kib: 64,
        }
    }
}

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) database: Database,
    pub(crate) url: String,
    pub(crate) store: Arc<dyn Store>,
    /// The second one, if there is one.
    other_store: Option<Arc<dyn Store>>,
    /// The address of the broker's virtual host, if there is one.
    broker: Option<String>,
    /// The user of what it publishes.
    user: &'static str,
    /// Carries the messages, unless a broker does.
    hub: Embedded,
    control: Arc<dyn Courier>,
    reply_to: String,
    replies: Mutex<Box<dyn Inbox>>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

type Connect = Box<dyn Fn(&'static str) -> BoxFuture<'static, Arc<dyn Courier>> + Send + Sync>;

impl Rig {
    pub(crate) async fn new(parts: Parts) -> Rig {
        Rig::with(Options::new(parts)).await
    }

    pub(crate) async fn with(options: Options) -> Rig {
        // `RUST_LOG=debug` shows what happens; a second test's try is refused.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pool")).unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        if options.two {
            std::fs::create_dir(dir.path().join("slow")).unwrap();
            std::fs::create_dir(dir.path().join("other")).unwrap();
        }
        let servers = options.parts.has_servers().then(Services::from_env);
        let url = match &servers {
            None => format!("sqlite://{}", dir.path().join("longshore.db").display()),
            Some(services) => services.fresh_database().await,
        };
        let hub = if options.calm || servers.is_some() { Embedded::new() } else { mischievous(options.lose) };
        let broker = match &servers {
            None => None,
            Some(services) => Some(services.fresh_vhost().await),
        };
        let connect: Connect = match broker.clone() {
            None => embedded(hub.clone()),
            Some(url) => Box::new(move |name| {
                let url = url.clone();
                Box::pin(async move { longshore_courier::open(&url, name).await.unwrap() })
            }),
        };
        let text = site_text(dir.path(), &options, &store_fields(dir.path(), &options).await);
        let site = Site::parse(&text).unwrap();
        let database = Database::open(&url).await.unwrap();
        let mut stores = apply(&database, &site).await.into_iter();
        let (store, other_store) = (stores.next().unwrap(), stores.next());
        if options.wrong_secret {
            std::fs::write(dir.path().join("secret"), "another secret than the store's").unwrap();
        }
        let stop = CancellationToken::new();
        let mut tasks = vec![];
        for _ in 0..options.engines {
            let courier = connect("engine").await;
            tasks.push(tokio::spawn(engine::run(database.clone(), courier, options.config, stop.clone())));
        }
        let mut worker = WorkerConfig::new(WorkerKind::Kvm, "z1", "h1");
        worker.drain_s = 1;
        let worker_courier = connect("worker").await;
        tasks.push(tokio::spawn(Worker::run(
            worker,
            worker_courier,
            with_between(options.between),
            options.opener.unwrap_or_else(|| Arc::new(HostOpener)),
            stop.clone(),
        )));
        let control = connect("control").await;
        let reply_to = unique("replies");
        let replies = Queue::Own { name: reply_to.clone(), exchange: String::new(), routing_keys: vec![] };
        control.declare(&[replies]).await.unwrap();
        let replies = Mutex::new(control.consume(&reply_to, 100).await.unwrap());
        let user = if servers.is_some() { BROKER_USER } else { names::LOCAL_USER };
        let rig = Rig { dir, database, url, store, other_store, broker, user, hub, control, reply_to, replies, stop, tasks };
        rig.until("the worker has tried pool and store", async || {
            let pools = if options.two { 2 } else { 1 };
            let stores = if options.wrong_secret { 0 } else { pools };
            let workers = rig.workers().await;
            workers.iter().any(|it| it.pools.len() == pools && it.stores.len() == stores).then_some(())
        })
        .await;
        rig
    }

    /// What the workers announced last.
    pub(crate) async fn workers(&self) -> Vec<Announce> {
        let now = longshore_engine::database::now(self.database.read()).await.unwrap();
        let workers = audit::workers(self.database.read(), now).await.unwrap();
        workers.into_iter().map(|it| it.announced).collect()
    }

    /// A file of the pool.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("pool").join(name)
    }

    /// Publishes a command and waits for its reply.
    pub(crate) async fn submit(&self, kind: &str, body: Value) -> Reply {
        self.submit_as(&unique("message"), kind, body).await
    }

    pub(crate) async fn submit_as(&self, message_id: &str, kind: &str, body: Value) -> Reply {
        let properties = Properties { message_id: Some(message_id.into()), ..Properties::default() };
        self.submit_with(kind, body, properties).await
    }

    /// Publishes a command with these properties, as the rig's user, and waits for its reply.
    pub(crate) async fn submit_with(&self, kind: &str, body: Value, properties: Properties) -> Reply {
        let properties = Properties { user_id: Some(self.user.to_owned()), ..properties };
        serde_json::from_value(self.send(kind, body.to_string(), properties).await).unwrap()
    }

    /// A connection of another user, who may publish what it likes.
    pub(crate) async fn connect_as(&self, user: &str) -> Arc<dyn Courier> {
        let Some(url) = &self.broker else { return Arc::new(self.hub.courier()) };
        let management = Services::from_env().management();
        management.create_user(user, "secret").await.unwrap();
        let (_, vhost) = url.rsplit_once('/').unwrap();
        management.permit(vhost, user, [".*", ".*", ".*"]).await.unwrap();
        let (_, address) = url.split_once('@').unwrap();
        longshore_courier::open(&format!("amqp://{user}:secret@{address}"), "other control").await.unwrap()
    }

    /// Publishes anything as a command and waits for the reply.
    pub(crate) async fn send(&self, kind: &str, body: impl Into<bytes::Bytes>, properties: Properties) -> Value {
        self.send_by(&*self.control, kind, body, properties).await
    }

    /// The same over somebody's connection.
    pub(crate) async fn send_by(
        &self,
        control: &dyn Courier,
        kind: &str,
        body: impl Into<bytes::Bytes>,
        properties: Properties,
    ) -> Value {
        let correlation_id = unique("correlation");
        let properties = Properties {
            reply_to: Some(self.reply_to.clone()),
            correlation_id: Some(correlation_id.clone()),
            persistent: true,
            ..properties
        };
        let parcel =
            Parcel { exchange: names::COMMANDS.into(), routing_key: kind.into(), mandatory: true, properties, body: body.into() };
        let mut replies = self.replies.lock().await;
        // A command that wasn't confirmed is sent again, as the contract says.
        while control.publish(vec![parcel.clone()]).await.remove(0).is_err() {}
        loop {
            let delivery = tokio::time::timeout(LIMIT, replies.next()).await.expect("a reply").expect("a connection");
            let ours = delivery.parcel.properties.correlation_id.as_ref() == Some(&correlation_id);
            let body = serde_json::from_slice(&delivery.parcel.body).unwrap();
            delivery.receipt.ack();
            if ours {
                return body;
            }
        }
    }

    /// Submits a command that must be accepted.
    pub(crate) async fn accepted(&self, kind: &str, body: Value) -> OperationId {
        let reply = self.submit(kind, body).await;
        assert!(reply.accepted, "{kind}: {:?}", reply.fault);
        reply.operation.unwrap()
    }

    /// Submits a command and waits until it is Ready.
    pub(crate) async fn ready(&self, kind: &str, body: Value) -> OperationView {
        let id = self.accepted(kind, body).await;
        self.in_state(id, "ready").await
    }

    pub(crate) async fn backup(&self, volume: &str, snapshot: Option<&str>) -> OperationView {
        self.ready("backup-snapshot", backup_body(volume, snapshot)).await
    }

    pub(crate) async fn restore(&self, from: OperationId, volume: &str, format: &str) -> OperationView {
        self.ready("create-volume", restore_body(from, volume, format)).await
    }

    pub(crate) async fn destroyed(&self, id: OperationId) -> OperationView {
        let reply = self.submit("destroy", json!({"operation": id})).await;
        assert!(reply.accepted, "{:?}", reply.fault);
        self.in_state(id, "destroyed").await
    }

    pub(crate) async fn show(&self, id: OperationId) -> OperationView {
        audit::show(self.database.read(), id).await.unwrap().expect("the operation")
    }

    /// Waits for a state; another final one is a failure.
    pub(crate) async fn in_state(&self, id: OperationId, state: &str) -> OperationView {
        self.until(&format!("{id} is {state}"), async || {
            let view = self.show(id).await;
            let over = ["ready", "failed", "destroyed"].contains(&view.state.as_str());
            let on_its_way = view.state == "ready" && state == "destroyed";
            assert!(view.state == state || !over || on_its_way, "{id} is {}, not {state}: {:?}", view.state, view.fault);
            (view.state == state).then_some(view)
        })
        .await
    }

    /// Its deadline passes now, however long it took to get here.
    pub(crate) async fn let_expire(&self, id: OperationId) {
        let expire = operation::Entity::update_many()
            .col_expr(operation::Column::Deadline, Expr::value(0_i64))
            .filter(operation::Column::Id.eq(id.0));
        let done = self.database.transact(move |tx| Box::pin(async move { Ok(expire.exec(tx).await?.rows_affected) }));
        assert_eq!(done.await.unwrap(), 1);
    }

    /// Waits for a condition.
    pub(crate) async fn until<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let wait = async {
            loop {
                if let Some(found) = condition().await {
                    return found;
                }
                ticks.tick().await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain: {what}\n{}", self.picture().await),
        }
    }

    /// All operations with what they wait for, for a failure's text.
    async fn picture(&self) -> String {
        let operations = audit::list(self.database.read(), &audit::Filter::default()).await.unwrap();
        operations.iter().map(|it| format!("{} {} {} {:?} {:?}\n", it.id, it.kind, it.state, it.fault, it.progress)).collect()
    }

    /// Nothing of dead operations is left anywhere, and the books agree with what there is.
    pub(crate) async fn assert_clean(&self) {
        let db = self.database.read();
        // Sweeps come by themselves, and go on as long as something is due.
        self.until("nothing is under way or due", async || {
            let now = longshore_engine::database::now(db).await.unwrap().0;
            let unstarted = queue::Entity::find().filter(queue::Column::Unstarted.ne(0));
            let live = operation::Entity::find().filter(operation::Column::State.is_in(["allocated", "copying", "destroying"]));
            let due = pack::Entity::find().filter(pack::Column::State.ne("live")).filter(pack::Column::NotBefore.lt(now));
            let (unstarted, live, due) =
                (unstarted.one(db).await.unwrap(), live.one(db).await.unwrap(), due.one(db).await.unwrap());
            (unstarted.is_none() && live.is_none() && due.is_none()).then_some(())
        })
        .await;
        assert_eq!(claim::Entity::find().all(db).await.unwrap(), [], "claims are left");
        assert_eq!(hold::Entity::find().all(db).await.unwrap(), [], "holds are left");
        let drafts: Vec<_> = files(&self.dir.path().join("pool")).into_iter().filter(|it| it.starts_with('.')).collect();
        assert_eq!(drafts, Vec::<String>::new(), "drafts are left");
        self.assert_books().await;
        for view in audit::list(db, &audit::Filter { limit: Some(1000), ..audit::Filter::default() }).await.unwrap() {
            assert_eq!(audit::verify_history(db, view.id).await.unwrap(), Some(vec![]), "history of {}", view.id);
        }
    }

    /// The totals of every place are the sums of the rows that they stand for.
    pub(crate) async fn assert_books(&self) {
        let db = self.database.read();
        let wrong: Vec<_> = books::read(db).await.unwrap().into_iter().filter(|it| !it.agree()).collect();
        assert_eq!(wrong, [], "books that don't agree");
        for place in place::Entity::find().all(db).await.unwrap() {
            assert!(place.reserved + place.used <= place.total, "{} is overfull", place.name);
        }
    }

    /// Keys in the store with their lengths.
    pub(crate) async fn keys(&self) -> BTreeMap<String, u64> {
        keys(&*self.store).await
    }

    /// The second store.
    pub(crate) fn other(&self) -> &dyn Store {
        &**self.other_store.as_ref().expect("a rig of two stores")
    }

    /// Stops everything as SIGTERM does, and checks that it ends well. What the channels did on purpose until then.
    pub(crate) async fn end(self) -> Mischief {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(LIMIT, task).await.expect("a clean end").unwrap().unwrap();
        }
        self.hub.mischief()
    }
}

/// Keys in a store with their lengths.
pub(crate) async fn keys(store: &dyn Store) -> BTreeMap<String, u64> {
    use futures::TryStreamExt;
    let entries: Vec<_> = store.list("").try_collect().await.unwrap();
    entries.into_iter().map(|it| (it.key, it.bytes)).collect()
}

pub(crate) fn backup_body(volume: &str, snapshot: Option<&str>) -> Value {
    let mut body = json!({"zone": "z1", "pool": "fast", "volume": volume, "store": "main"});
    if let Some(snapshot) = snapshot {
        body["snapshot"] = snapshot.into();
    }
    body
}

pub(crate) fn restore_body(from: OperationId, volume: &str, format: &str) -> Value {
    json!({"zone": "z1", "from": from, "pool": "fast", "volume": volume, "format": format})
}

pub(crate) fn copy_body(from: OperationId, store: &str) -> Value {
    json!({"from": from, "store": store})
}

/// Doubles, reorders and loses messages: the first commands for certain, others by chance. Of those it usually loses few, since a
/// lost step costs the whole time in which it could have started.
fn mischievous(lose: f64) -> Embedded {
    // What goes wrong differs from run to run; that nothing comes of it doesn't.
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |it| it.parse().unwrap());
    println!("the courier's SEED={seed}");
    Embedded::with_chaos(Chaos { seed, double: 0.2, reorder: 0.3, lose, certain: Some(names::COMMANDS) })
}

fn embedded(hub: Embedded) -> Connect {
    Box::new(move |_| {
        let courier: Arc<dyn Courier> = Arc::new(hub.courier());
        Box::pin(async move { courier })
    })
}

fn with_between(between: Option<Arc<dyn Between>>) -> Handlers {
    between.into_iter().fold(handlers(), Handlers::between)
}

/// Where the first store is, and how it is reached: a place of its own for each rig.
async fn store_fields(dir: &Path, options: &Options) -> String {
    match options.parts {
        Parts::Embedded | Parts::ServicesDirectory => format!("url = \"file://{}/store\"", dir.display()),
        Parts::EmbeddedSwift => swift::fresh_container(&Services::from_env(), Login::Tempauth, dir).await,
        Parts::EmbeddedS3 | Parts::Services => {
            let services = Services::from_env();
            let bucket = services.fresh_bucket().await;
            std::fs::write(dir.join("key"), &services.s3_key).unwrap();
            std::fs::write(dir.join("secret"), &services.s3_secret).unwrap();
            let (endpoint, dir) = (options.endpoint.as_ref().unwrap_or(&services.s3_endpoint), dir.display());
            format!(
                "url = \"s3://{}/prefix\"\nendpoint = \"{endpoint}\"\nsigning_region = \"us-east-1\"\npath_style = true\n\
                 credentials = {{ access_key = \"file:{dir}/key\", secret_key = \"file:{dir}/secret\" }}",
                bucket.name,
            )
        }
    }
}

fn site_text(dir: &Path, options: &Options, store: &str) -> String {
    let dir = dir.display();
    let (capacity, grace_s) = (options.store_capacity, options.grace_s);
    let second = match options.two {
        false => String::new(),
        true => format!(
            "[[store]]\nname = \"other\"\nregion = \"r1\"\ncapacity = \"{capacity}\"\nthreshold = 1.0\ngrace_s = {grace_s}\n\
             extent_size = \"{} KiB\"\nurl = \"file://{dir}/other\"\n\
             [[pool]]\nname = \"slow\"\nzone = \"z1\"\nhypervisor = \"kvm\"\nurl = \"file://{dir}/slow\"\ncapacity = \"1 GiB\"\n",
            options.other_extent_kib
        ),
    };
    format!(
        "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n\
         [[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"{capacity}\"\nthreshold = 1.0\ngrace_s = {grace_s}\n\
         extent_size = \"64 KiB\"\n{store}\n\
         [[pool]]\nname = \"fast\"\nzone = \"z1\"\nhypervisor = \"kvm\"\nurl = \"file://{dir}/pool\"\ncapacity = \"{}\"\n\
         {second}{}",
        options.pool_capacity, options.users
    )
}

/// As `longshore site apply`: probes the stores, founds them, writes the site. The stores, in the site's order.
async fn apply(database: &Database, wanted: &Site) -> Vec<Arc<dyn Store>> {
    let known = site::read(database.read()).await.unwrap();
    let mut stores = vec![];
    for place in &wanted.stores {
        let capabilities = probe::probe(place).await.unwrap();
        let store = open::open(place, Some(&capabilities)).await.unwrap();
        let extent_size = place.extent_size.map_or(64 << 10, |it| u32::try_from(it.0).unwrap());
        description::found(&*store, extent_size, known.incarnation, capabilities).await.unwrap();
        stores.push(store);
    }
    site::apply(database, &known, wanted).await.unwrap().unwrap();
    stores
}

/// Names of all files of a folder.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs a tool to its end; its failure is the test's.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A qcow2 or raw volume with that content.
pub(crate) fn make_volume(path: &Path, format: &str, content: &[u8]) {
    let raw = path.with_extension("tmp-raw");
    std::fs::write(&raw, content).unwrap();
    tool("qemu-img", &["convert", "-f", "raw", "-O", format, raw.to_str().unwrap(), path.to_str().unwrap()]);
    std::fs::remove_file(raw).unwrap();
}

/// What a guest sees of a volume.
pub(crate) fn content(path: &Path, format: &str) -> Vec<u8> {
    let raw = path.with_extension("tmp-content");
    tool("qemu-img", &["convert", "-f", format, "-O", "raw", path.to_str().unwrap(), raw.to_str().unwrap()]);
    let content = std::fs::read(&raw).unwrap();
    std::fs::remove_file(raw).unwrap();
    content
}

/// Bytes that don't compress, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    use rand::{RngExt, SeedableRng};
    let mut content = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(seed).fill(&mut content[..]);
    content
}
