//! Real requests over loopback, answered from a real database, with a real engine at work beside them.

use super::{Options, Server, listener::Limits};
use crate::{config::Config, database::Database, engine};
use futures::FutureExt;
use longshore_courier::{
    Courier, Parcel, Properties, Queue,
    embedded::{Embedded, EmbeddedCourier},
};
use longshore_schema::{
    tables::{place, worker, zone},
    wire::names,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
const TOKEN: &str = "a-token-of-a-test-0123456789";

/// An engine with its listener.
struct Site {
    hub: Embedded,
    control_plane: EmbeddedCourier,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
    folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    async fn start(with_token: bool) -> Site {
        Site::start_within(with_token, Limits::default()).await
    }

    async fn start_within(with_token: bool, limits: Limits) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/db.sqlite", folder.path().display())).await.unwrap();
        database.transact(|tx| furnish(tx).boxed()).await.unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let token = with_token.then(|| format!("file:{}", token.display()));
        let mut server = Server::bind(&Options { address: ([127, 0, 0, 1], 0).into(), token }).await.unwrap();
        server.limits = limits;
        let (hub, stop, address) = (Embedded::new(), CancellationToken::new(), server.address().unwrap());
        tokio::spawn(engine::run(database.clone(), Arc::new(hub.courier()), Config::default(), stop.clone()));
        let served = tokio::spawn(server.run(database, Arc::new(hub.courier()), stop.clone()));
        let control_plane = hub.courier();
        let replies = Queue::Own { name: "replies".into(), exchange: String::new(), routing_keys: vec![] };
        control_plane.declare(&[replies]).await.unwrap();
        Site { hub, control_plane, address, stop, served, folder }
    }

    /// Sends a command and waits for the reply.
    async fn command(&self, kind: &str, body: Value) -> Value {
        let properties = Properties {
            message_id: Some(uuid::Uuid::now_v7().to_string()),
            reply_to: Some("replies".into()),
            persistent: true,
            ..Properties::default()
        };
        let parcel = Parcel {
            exchange: names::COMMANDS.into(),
            routing_key: kind.into(),
            mandatory: true,
            properties,
            body: body.to_string().into(),
        };
        // The engine may be about to declare its queues.
        while self.control_plane.publish(vec![parcel.clone()]).await[0].is_err() {
            tokio::task::yield_now().await;
        }
        let mut inbox = self.control_plane.consume("replies", 1).await.unwrap();
        let delivery = inbox.next().await.unwrap();
        let reply = serde_json::from_slice(&delivery.parcel.body).unwrap();
        delivery.receipt.ack();
        reply
    }

    async fn backup(&self, volume: &str) -> String {
        let body = json!({"zone": "z1", "pool": "fast", "volume": volume, "store": "main"});
        let reply = self.command("backup-snapshot", body).await;
        reply["operation"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        self.ask_with("GET", path, &format!("Host: {}\r\n", self.address)).await
    }

    async fn ask_with(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A reader of events whose subscription stands.
    async fn events(&self) -> Events {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        let request = format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = Events(stream);
        assert!(events.line().await.unwrap().contains("200"));
        while events.line().await.unwrap() != "" {}
        events
    }
}

/// Server-sent events as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event's name and data; `None` at the stream's end.
    async fn next(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let line = self.line().await?;
            if let Some(it) = line.strip_prefix("event: ") {
                name = it.to_owned();
            }
            if let Some(it) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(it).unwrap()));
            }
        }
    }
}

async fn furnish(tx: &crate::database::Transaction) -> Result<(), crate::database::Failed> {
    let near = zone::Model { name: "z1".into(), region: "r1".into(), path: "auto".into() };
    zone::Entity::insert(zone::ActiveModel::from(near).reset_all()).exec_without_returning(tx).await?;
    let pool = json!({"role": "pool", "name": "fast", "zone": "z1", "hypervisor": "kvm", "url": "file:///srv/v", "capacity": 1_u64 << 40});
    let store = json!({"role": "store", "name": "main", "url": "file:///srv/s", "region": "r1", "capacity": 1 << 30,
        "incarnation": uuid::Uuid::nil()});
    for (role, name, definition, extent_size) in [("pool", "fast", pool, 0), ("store", "main", store, 1 << 18)] {
        let row = place::ActiveModel {
            role: Set(role.into()),
            name: Set(name.into()),
            zone: Set((role == "pool").then(|| "z1".into())),
            region: Set((role == "store").then(|| "r1".into())),
            url: Set(definition["url"].as_str().unwrap_or_default().into()),
            total: Set(definition["capacity"].as_i64().unwrap_or(0)),
            definition: Set(definition),
            physical_used: Set(0),
            promised: Set(0),
            reserved: Set(0),
            used: Set(0),
            overcommit: Set(1.0),
            threshold: Set(0.5),
            extent_size: Set(extent_size),
            version: Set(0),
            ..Default::default()
        };
        place::Entity::insert(row).exec_without_returning(tx).await?;
    }
    let announced = json!({"worker": "h1-kvm", "incarnation": uuid::Uuid::nil(), "kind": "kvm", "host": "h1", "zone": "z1",
        "version": "0", "tools": {}, "pools": ["fast"], "stores": ["main"], "concurrency": 2});
    let worker = worker::Model {
        id: "h1-kvm".into(),
        incarnation: uuid::Uuid::nil(),
        kind: "kvm".into(),
        host: "h1".into(),
        zone: "z1".into(),
        announced,
        leaving: false,
        seen_at: crate::database::now(tx).await?.0,
    };
    worker::Entity::insert(worker::ActiveModel::from(worker).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

#[tokio::test]
async fn an_operation_is_listed_shown_and_its_history_read() {
    let site = Site::start(false).await;
    let id = site.backup("a.qcow2").await;
    let shown = site.json(&format!("/api/operations/{id}")).await;
    assert_eq!((shown["kind"].as_str(), shown["zone"].as_str()), (Some("backup-snapshot"), Some("z1")));
    assert_eq!(shown["path"]["chosen"], "direct");
    let history = site.json(&format!("/api/operations/{id}/history")).await;
    assert_eq!(history["history"][0]["event"], json!({"event": "accepted"}));
    assert_eq!(history["next"], Value::Null);
    let listed = site.json("/api/operations?state=allocated&kind=&zone=z1&tenant=default&after=&limit=").await;
    assert_eq!(listed["operations"], json!([shown]));
    assert_eq!(site.json("/api/operations?zone=z2").await["operations"], json!([]));
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps_or_doubles() {
    let site = Site::start(false).await;
    let mut made = vec![];
    for n in 0..5 {
        made.push(site.backup(&format!("v{n}")).await);
    }
    made.reverse();
    let (mut seen, mut after, mut pages) = (vec![], String::new(), 0);
    loop {
        let page = site.json(&format!("/api/operations?limit=2&after={after}")).await;
        seen.extend(page["operations"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((seen, pages), (made.clone(), 3));
    let cancelled = site.command("cancel", json!({"operation": made[0]})).await;
    assert_eq!(cancelled["state"], "failed");
    let first = site.json(&format!("/api/operations/{}/history?limit=1", made[0])).await;
    let rest = site.json(&format!("/api/operations/{}/history?after={}", made[0], first["next"])).await;
    assert_eq!(rest["history"][0]["seq"], 2);
}

#[tokio::test]
async fn what_has_no_meaning_is_refused_with_a_fault() {
    let site = Site::start(false).await;
    let nobody = uuid::Uuid::now_v7();
    for (path, status, code) in [
        ("/api/operations?state=broken".to_owned(), 400, "command.malformed"),
        ("/api/operations?colour=red".to_owned(), 400, "command.malformed"),
        ("/api/operations?state=ready&state=failed".to_owned(), 400, "command.malformed"),
        ("/api/operations?state=&state=failed".to_owned(), 400, "command.malformed"),
        ("/api/operations?limit=1&state=ready&limit=2".to_owned(), 400, "command.malformed"),
        (format!("/api/operations/{nobody}?limit=1"), 400, "command.malformed"),
        (format!("/api/operations/{nobody}/history?after=1&after=2"), 400, "command.malformed"),
        ("/api/stores?name=main".to_owned(), 400, "command.malformed"),
        ("/api/workers?zone=z1".to_owned(), 400, "command.malformed"),
        ("/api/events?kind=backup-snapshot".to_owned(), 400, "command.malformed"),
        ("/metrics?name=longshore_operations".to_owned(), 400, "command.malformed"),
        ("/api/operations?limit=0".to_owned(), 400, "command.malformed"),
        ("/api/operations?limit=1001".to_owned(), 400, "command.malformed"),
        ("/api/operations?limit=many".to_owned(), 400, "command.malformed"),
        ("/api/operations?after=1".to_owned(), 400, "command.malformed"),
        ("/api/operations/1".to_owned(), 404, "operation.unknown"),
        (format!("/api/operations/{nobody}"), 404, "operation.unknown"),
        (format!("/api/operations/{nobody}/history"), 404, "operation.unknown"),
        (format!("/api/operations/{nobody}/history?after=x"), 400, "command.malformed"),
        ("/api/nothing".to_owned(), 404, "command.malformed"),
    ] {
        let (answered, body) = site.ask(&path).await;
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert_eq!((answered, body["fault"]["code"].as_str()), (status, Some(code)), "{path}: {body}");
    }
    let (status, body) = site.ask_with("POST", "/api/operations", "Host: localhost\r\nContent-Length: 0\r\n").await;
    assert!(status == 405 && body.contains("go through the broker"), "{status} {body}");
}

#[tokio::test]
async fn everyone_who_follows_sees_what_any_engine_announces() {
    let site = Site::start(false).await;
    let (mut one, mut two) = (site.events().await, site.events().await);
    // The queue of events may not stand yet: what another engine announces shows when it does.
    let other_engine = site.hub.courier();
    let probe = json!({"operation": uuid::Uuid::nil(), "step": "probe", "done_bytes": 1, "total_bytes": null});
    let parcel = Parcel {
        exchange: names::EVENTS.into(),
        routing_key: "backup-snapshot.progress".into(),
        mandatory: true,
        properties: Properties::default(),
        body: probe.to_string().into(),
    };
    while other_engine.publish(vec![parcel.clone()]).await[0].is_err() {
        tokio::task::yield_now().await;
    }
    for reader in [&mut one, &mut two] {
        assert_eq!(reader.next().await.unwrap(), ("progress".to_owned(), probe.clone()));
    }
    let id = site.backup("a.qcow2").await;
    site.command("cancel", json!({"operation": id})).await;
    for reader in [&mut one, &mut two] {
        for (seq, state) in [(1, "allocated"), (2, "failed")] {
            let (name, event) = reader.next().await.unwrap();
            assert_eq!((name.as_str(), &event["data"]["to"]), ("state", &json!(state)), "{event}");
            assert_eq!((&event["subject"], &event["data"]["seq"]), (&json!(id), &json!(seq)));
        }
    }
    let (_, metrics) = site.ask("/metrics").await;
    assert!(metrics.contains("longshore_state_changes_total{kind=\"backup-snapshot\",to=\"failed\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed() {
    use super::events::Feed;
    use futures::StreamExt;
    let (feed, hub, stop) = (Feed::default(), Embedded::new(), CancellationToken::new());
    let mut slow = Box::pin(feed.written());
    let following = tokio::spawn(feed.clone().follow(Arc::new(hub.courier()), stop.clone()));
    let publisher = hub.courier();
    let parcel = |n: u64| Parcel {
        exchange: names::EVENTS.into(),
        routing_key: "backup-snapshot.progress".into(),
        mandatory: true,
        properties: Properties::default(),
        body: json!({"operation": uuid::Uuid::nil(), "step": "s", "done_bytes": n, "total_bytes": null}).to_string().into(),
    };
    let mut fast = Box::pin(feed.written());
    for n in 0..1500 {
        while publisher.publish(vec![parcel(n)]).await[0].is_err() {
            tokio::task::yield_now().await;
        }
        assert!(fast.next().await.unwrap().is_ok());
    }
    let told = format!("{:?}", slow.next().await.unwrap().unwrap());
    assert!(told.contains("missed") && told.contains("476"), "{told}");
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn without_the_token_nothing_is_read() {
    let site = Site::start(true).await;
    let guarded = [
        "/api/operations",
        "/api/operations/x",
        "/api/operations/x/history",
        "/api/stores",
        "/api/workers",
        "/api/events",
        "/metrics",
    ];
    let wrong = [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer a-token-of-a-test-012345678\r\n",
        "Authorization: a-token-of-a-test-0123456789\r\n",
    ];
    for path in guarded {
        for header in wrong {
            let (status, body) = site.ask_with("GET", path, &format!("Host: localhost\r\n{header}")).await;
            assert!(status == 401 && body.contains("command.not-allowed"), "{path} {header}: {status} {body}");
        }
    }
    let right = format!("Host: engine.example.org\r\nAuthorization: bearer {TOKEN}\r\n");
    assert_eq!(site.ask_with("GET", "/api/operations", &right).await.0, 200);
    assert_eq!(site.ask("/healthz").await, (200, "alive\n".to_owned()));
}

#[tokio::test]
async fn a_name_that_was_pointed_at_loopback_is_refused() {
    let site = Site::start(false).await;
    for header in ["", "Host: evil.example.org\r\n", "Host: 127.0.0.1.example.org:80\r\n"] {
        for path in ["/api/operations", "/", "/healthz", "/nothing"] {
            assert_eq!(site.ask_with("GET", path, header).await.0, 403, "{header:?} {path}");
        }
    }
    assert_eq!(site.ask_with("GET", "/api/operations", "Host: LocalHost:1\r\n").await.0, 200);
}

#[tokio::test]
async fn an_address_for_everyone_needs_a_token() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let options = Options { address: address.parse().unwrap(), token: None };
        let error = Server::bind(&options).await.unwrap_err().to_string();
        assert!(error.contains("give readers a token"), "{error}");
    }
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let site = Site::start(false).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await.unwrap();
    // The other side may close before all of it is written.
    let _ = stream.write_all(&vec![b'x'; 1 << 20]).await;
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

/// Whether the other side closed it: what comes is thrown away.
async fn is_closed(mut stream: TcpStream) -> bool {
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut vec![]).await;
    true
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_out() {
    let limits = Limits { connections: 4, reads: 1, probes: 1, streams: 1, headers_within: HOUR, ..Limits::default() };
    let site = Site::start_within(false, limits).await;
    let mut reader = site.events().await;
    let mut silent = vec![];
    for n in 0..20 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        // Some say nothing at all, some never come to their headers' end, some keep their connection for later.
        let said = ["", "GET /healthz HTTP/1.1\r\nHost: ", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"][n % 3];
        stream.write_all(said.as_bytes()).await.unwrap();
        silent.push(stream);
        assert_eq!(site.ask("/healthz").await, (200, "alive\n".to_owned()));
    }
    // The longest silent ones had to go; the reader of events, who is the eldest, didn't.
    for stream in silent.drain(..16) {
        assert!(is_closed(stream).await);
    }
    site.backup("a.qcow2").await;
    assert_eq!(reader.next().await.unwrap().0, "state");
}

#[tokio::test]
async fn a_request_without_end_and_an_idle_connection_are_closed() {
    let limits = Limits { headers_within: Duration::from_millis(20), ..Limits::default() };
    let site = Site::start_within(false, limits).await;
    for said in ["", "G", "GET /healthz HTTP/1.1\r\nHost: ", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        assert!(is_closed(stream).await);
    }
    assert_eq!(site.ask("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_request_that_comes_a_byte_at_a_time_is_closed() {
    let limits = Limits { headers_within: Duration::from_millis(20), ..Limits::default() };
    let site = Site::start_within(false, limits).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
    // Each byte is progress; the headers' end never comes.
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    while stream.write_all(b"x").await.is_ok() {
        pace.tick().await;
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_of_its_answers_is_closed() {
    let limits = Limits { taken_within: Duration::from_millis(20), ..Limits::default() };
    let site = Site::start_within(false, limits).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    // Once all buffers are full nothing more is read, until the engine gives up.
    while stream.write_all(requests.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn more_readers_than_there_is_room_for_are_told_to_come_again() {
    let site = Site::start_within(false, Limits { reads: 0, probes: 0, streams: 1, ..Limits::default() }).await;
    for path in ["/api/operations", "/api/stores", "/metrics", "/readyz"] {
        let (status, body) = site.ask(path).await;
        assert!(status == 503 && body.contains("retry_after_s"), "{path}: {status} {body}");
    }
    assert_eq!(site.ask("/healthz").await.0, 200);
    let site = Site::start_within(false, Limits { streams: 1, ..Limits::default() }).await;
    let reader = site.events().await;
    assert_eq!(site.ask("/api/events").await.0, 503);
    drop(reader);
}

#[tokio::test]
async fn readers_that_take_all_the_room_leave_the_engine_ready() {
    let site = Site::start_within(false, Limits { reads: 0, ..Limits::default() }).await;
    assert_eq!(site.ask("/api/operations").await.0, 503);
    assert_eq!(site.json("/readyz").await["database"], "answers");
}

#[tokio::test]
async fn places_workers_and_health_are_shown() {
    let site = Site::start(false).await;
    let stores = site.json("/api/stores").await;
    assert_eq!((&stores["stores"][0]["name"], &stores["stores"][0]["limit"]), (&json!("main"), &json!(1 << 29)));
    assert_eq!(stores["stores"].as_array().unwrap().len(), 1);
    assert_eq!(site.json("/api/workers").await["workers"][0]["worker"], "h1-kvm");
    assert_eq!(site.json("/readyz").await["broker"], "answers");
    assert!(site.ask("/").await.1.contains("/api/operations"));
    site.backup("a.qcow2").await;
    let (status, metrics) = site.ask("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "longshore_operations{state=\"allocated\"} 1\n",
        "longshore_operations{state=\"ready\"} 0\n",
        "longshore_place_limit_bytes{place=\"main\",role=\"store\"} 536870912\n",
        "longshore_workers_live{zone=\"z1\",kind=\"kvm\"} 1\n",
        "longshore_queue_unstarted_steps{queue=\"zone.z1.kvm\"} 1\n",
        "# TYPE longshore_operations gauge\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn not_ready_without_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&format!("sqlite://{}/db.sqlite", folder.path().display())).await.unwrap();
    let server = Server::bind(&Options { address: ([127, 0, 0, 1], 0).into(), token: None }).await.unwrap();
    let (hub, stop, address) = (Embedded::new(), CancellationToken::new(), server.address().unwrap());
    let (courier, control_plane) = (Arc::new(hub.courier()), hub.courier());
    courier.close().await;
    let served = tokio::spawn(server.run(database, courier, stop.clone()));
    let site = Site { hub, control_plane, address, stop, served, folder };
    let (status, body) = site.ask("/readyz").await;
    assert!(status == 503 && body.contains("the broker doesn't answer"), "{status} {body}");
    assert_eq!(site.ask("/api/operations").await.0, 200);
}

#[tokio::test]
async fn told_to_stop_it_ends_streams_and_returns() {
    let mut site = Site::start(false).await;
    let mut reader = site.events().await;
    let idle = TcpStream::connect(site.address).await.unwrap();
    site.stop.cancel();
    while reader.next().await.is_some() {}
    (&mut site.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
    drop(idle);
    assert!(site.folder.path().exists());
}
