//! The socket with a hub behind it, and an engine that answers as told.

use super::{NobodyListens, *};
use crate::{Courier, Parcel, Properties, Queue, embedded::Embedded};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    wire::Reply,
};
use serde_json::json;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A served socket, and the commands that reached the engine.
struct Served {
    folder: Folder,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
    commands: mpsc::UnboundedReceiver<Parcel>,
}

fn folder() -> Folder {
    let path = std::env::temp_dir().join(format!("ls-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir(&path).unwrap();
    Folder(path)
}

impl Folder {
    fn socket(&self) -> PathBuf {
        self.0.join("engine.sock")
    }
}

/// The engine accepts every command; the reply's `state` repeats the message id.
async fn engine(hub: &Embedded) -> mpsc::UnboundedReceiver<Parcel> {
    let courier = hub.courier();
    let queue = Queue::Durable { name: names::COMMANDS.into(), exchange: names::COMMANDS.into(), routing_key: "#".into() };
    courier.declare(&[queue]).await.unwrap();
    let mut inbox = courier.consume(names::COMMANDS, 1).await.unwrap();
    let (seen, commands) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(delivery) = inbox.next().await {
            let Properties { message_id, reply_to, correlation_id, .. } = delivery.parcel.properties.clone();
            let reply = Reply { state: message_id, ..accepted() };
            let properties = Properties { correlation_id, ..Properties::default() };
            let (exchange, routing_key) = (String::new(), reply_to.unwrap());
            let body = serde_json::to_vec(&reply).unwrap().into();
            courier.publish(vec![Parcel { exchange, routing_key, mandatory: false, properties, body }]).await;
            delivery.receipt.ack();
            if seen.send(delivery.parcel).is_err() {
                return;
            }
        }
    });
    commands
}

fn accepted() -> Reply {
    Reply { accepted: true, operation: Some(OperationId::new()), duplicate: false, state: None, waiting_for: None, fault: None }
}

async fn served() -> Served {
    let hub = Embedded::new();
    let commands = engine(&hub).await;
    let (folder, stop) = (folder(), CancellationToken::new());
    let courier: Arc<dyn Courier> = Arc::new(hub.courier());
    let serving = tokio::spawn({
        let (path, stop) = (folder.socket(), stop.clone());
        async move { serve(&path, courier, stop).await }
    });
    listening(&folder.socket()).await;
    Served { folder, stop, serving, commands }
}

async fn listening(path: &Path) {
    while UnixStream::connect(path).await.is_err() {
        tokio::task::yield_now().await;
    }
}

fn command(message_id: &str) -> Command {
    let (kind, message_id) = ("cancel".into(), message_id.into());
    let body = json!({"operation": "0198c0de-0000-7000-8000-000000000000"});
    Command { kind, message_id, correlation_id: Some("mine".into()), priority: Some(5), tenant: Some("t1".into()), body }
}

fn fault(line: &str) -> Fault {
    let reply: Reply = serde_json::from_str(line).unwrap();
    assert!(!reply.accepted && line.ends_with('\n'), "{line}");
    reply.fault.unwrap()
}

#[tokio::test]
async fn a_command_reaches_the_engine_as_it_would_over_the_broker() {
    let mut served = served().await;
    let reply = request(&served.folder.socket(), &command("id-1")).await.unwrap();
    assert_eq!((reply.accepted, reply.state.as_deref()), (true, Some("id-1")));
    let parcel = served.commands.recv().await.unwrap();
    assert_eq!((parcel.exchange.as_str(), parcel.routing_key.as_str()), (names::COMMANDS, "cancel"));
    let properties = &parcel.properties;
    assert_eq!(properties.user_id.as_deref(), Some(names::LOCAL_USER));
    assert_eq!(properties.message_id.as_deref(), Some("id-1"));
    assert_eq!((properties.priority, properties.headers["tenant"].as_str()), (Some(5), "t1"));
    assert_eq!(serde_json::from_slice::<Value>(&parcel.body).unwrap(), command("").body);
}

#[tokio::test]
async fn a_user_in_the_line_is_ignored() {
    let mut served = served().await;
    let mut stream = UnixStream::connect(served.folder.socket()).await.unwrap();
    stream.write_all(b"{\"kind\":\"cancel\",\"message_id\":\"m\",\"user_id\":\"root\",\"body\":{}}\n").await.unwrap();
    assert_eq!(served.commands.recv().await.unwrap().properties.user_id.as_deref(), Some(names::LOCAL_USER));
}

#[tokio::test]
async fn many_requests_are_answered_in_order_and_a_bad_one_harms_no_other() {
    let served = served().await;
    let mut stream = UnixStream::connect(served.folder.socket()).await.unwrap();
    let good = |id: &str| serde_json::to_string(&command(id)).unwrap() + "\n";
    let wrong = [
        "not json\n",
        "\n",
        "[]\n",
        "{\"kind\":\"cancel\",\"body\":{}}\n",
        "{\"kind\":\"cancel\",\"message_id\":\"\",\"body\":{}}\n",
        "{\"kind\":\"\",\"message_id\":\"m\",\"body\":{}}\n",
        "{\"kind\":\"cancel\",\"message_id\":\"m\",\"priority\":10,\"body\":{}}\n",
        "{\"kind\":\"cancel\",\"message_id\":\"m\"}\n",
        "{\"kind\":\"cancel\",\"kind\":\"destroy\",\"message_id\":\"m\",\"body\":{}}\n",
        "{\"kind\":\"cancel\",\"message_id\":\"m\",\"body\":{\"operation\":1,\"operation\":2}}\n",
        "{\"kind\":\"cancel\",\"message_id\":\"m\",\"body\":{\"a\":[{\"b\":1,\"b\":1}]}}\n",
        "\u{fffd}\n",
    ];
    let long_id = good(&"x".repeat(129));
    let long_kind = good("m").replace("cancel", &"k".repeat(300));
    let (from, mut to) = stream.split();
    let mut lines = BufReader::new(from);
    let mut line = String::new();
    for (n, wrong) in wrong.into_iter().chain([long_id.as_str(), &long_kind]).enumerate() {
        to.write_all(format!("{}{wrong}", good(&format!("{n}"))).as_bytes()).await.unwrap();
        line.clear();
        lines.read_line(&mut line).await.unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap().state, Some(format!("{n}")));
        line.clear();
        lines.read_line(&mut line).await.unwrap();
        assert_eq!(fault(&line).code, code::COMMAND_MALFORMED, "{wrong}");
    }
    to.write_all(&[0xff, b'\n']).await.unwrap();
    line.clear();
    lines.read_line(&mut line).await.unwrap();
    assert_eq!(fault(&line).code, code::COMMAND_MALFORMED);
}

#[tokio::test]
async fn a_line_over_the_limit_gets_its_own_fault() {
    let served = served().await;
    let mut stream = UnixStream::connect(served.folder.socket()).await.unwrap();
    let (from, mut to) = stream.split();
    let mut long = vec![b' '; names::BODY_LIMIT + 1];
    long.push(b'\n');
    to.write_all(&long).await.unwrap();
    to.write_all((serde_json::to_string(&command("after")).unwrap() + "\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(from).lines();
    let reply = lines.next_line().await.unwrap().unwrap();
    assert_eq!(fault(&(reply + "\n")).code, code::COMMAND_TOO_LARGE);
    let reply: Reply = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(reply.state.as_deref(), Some("after"));
}

#[tokio::test]
async fn clients_at_once_get_their_own_replies() {
    let served = served().await;
    let path = served.folder.socket();
    let asking = (0..50).map(|n| {
        let path = path.clone();
        tokio::spawn(async move { (n, request(&path, &command(&format!("{n}"))).await.unwrap()) })
    });
    for asked in asking.collect::<Vec<_>>() {
        let (n, reply) = asked.await.unwrap();
        assert_eq!(reply.state, Some(format!("{n}")));
    }
}

#[tokio::test]
async fn only_its_owner_may_open_the_socket_and_it_goes_with_its_server() {
    let served = served().await;
    let path = served.folder.socket();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&served.folder.0).unwrap().count(), 1, "nothing else is left in the folder");
    let mut idle = UnixStream::connect(&path).await.unwrap();
    served.stop.cancel();
    served.serving.await.unwrap().unwrap();
    assert!(!path.exists());
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle client is told");
}

#[tokio::test]
async fn without_an_engine_the_client_says_so() {
    let folder = folder();
    let path = folder.socket();
    let missing = request(&path, &command("m")).await.unwrap_err();
    assert_eq!(missing.downcast_ref(), Some(&NobodyListens { path: path.clone() }));
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead engine's socket");
    let dead = request(&path, &command("m")).await.unwrap_err();
    assert_eq!(dead.downcast_ref(), Some(&NobodyListens { path }));
}

#[tokio::test]
async fn an_engine_that_dies_before_its_reply_is_an_error_of_its_own() {
    let folder = folder();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let (path, asked) = (folder.socket(), command("m"));
    let dies = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
    };
    let (answer, ()) = futures::join!(request(&path, &asked), dies);
    let error = answer.unwrap_err();
    assert!(error.downcast_ref::<NobodyListens>().is_none(), "{error:#}");
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let served = served().await;
    let path = served.folder.socket();
    let hub = Embedded::new();
    let error = serve(&path, Arc::new(hub.courier()), CancellationToken::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("another engine listens"), "{error:#}");
    request(&path, &command("still there")).await.unwrap();
    served.stop.cancel();
    served.serving.await.unwrap().unwrap();

    drop(UnixListener::bind(&path).unwrap());
    let _engine = engine(&hub).await;
    let stop = CancellationToken::new();
    let courier: Arc<dyn Courier> = Arc::new(hub.courier());
    let serving = tokio::spawn({
        let (path, stop) = (path.clone(), stop.clone());
        async move { serve(&path, courier, stop).await }
    });
    listening(&path).await;
    assert!(request(&path, &command("new")).await.unwrap().accepted);
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = folder();
    std::fs::write(folder.socket(), "precious").unwrap();
    let hub = Embedded::new();
    let error = serve(&folder.socket(), Arc::new(hub.courier()), CancellationToken::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("no socket"), "{error:#}");
    assert_eq!(std::fs::read_to_string(folder.socket()).unwrap(), "precious");
    let long = folder.0.join("x".repeat(120));
    let error = serve(&long, Arc::new(hub.courier()), CancellationToken::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("107 bytes"), "{error:#}");
}

#[tokio::test]
async fn without_a_queue_of_commands_the_reply_is_a_fault_that_can_be_tried_again() {
    let (folder, stop, hub) = (folder(), CancellationToken::new(), Embedded::new());
    let path = folder.socket();
    let asks = async {
        listening(&path).await;
        let reply = request(&path, &command("m")).await.unwrap();
        stop.cancel();
        reply
    };
    let (served, reply) = futures::join!(serve(&path, Arc::new(hub.courier()), stop.clone()), asks);
    served.unwrap();
    assert!(!reply.accepted && reply.fault.unwrap().is_transient());
}
