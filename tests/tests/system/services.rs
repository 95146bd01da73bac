//! What the other tests stand on: each gets services of its own, and a broker that was killed keeps what it
//! had confirmed.

use aws_sdk_s3::primitives::ByteStream;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use longshore_tests::{
    broker::Broker,
    services::{Services, with_path},
};
use sea_orm::{ConnectionTrait, Database};
use std::process::Command;

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.expect("connect to the broker")
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let services = Services::from_env();
    let (one, other) = tokio::join!(services.fresh_database(), services.fresh_database());
    assert_ne!(one, other);
    for url in [one, other] {
        let database = Database::connect(url).await.unwrap();
        database.execute_unprepared("CREATE TABLE only_here (id int)").await.unwrap();
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn every_test_has_a_virtual_host_of_its_own_and_users_get_only_what_they_are_given() {
    let services = Services::from_env();
    let (one, other) = tokio::join!(services.fresh_vhost(), services.fresh_vhost());
    let channel = connect(&one).await.create_channel().await.unwrap();
    channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let elsewhere = connect(&other).await.create_channel().await.unwrap();
    assert!(elsewhere.queue_declare("q".into(), passive, FieldTable::default()).await.is_err());

    let vhost = one.rsplit_once('/').unwrap().1;
    let management = services.management();
    management.create_user(vhost, "secret").await.unwrap();
    management.permit(vhost, vhost, ["^$", "^$", "^q$"]).await.unwrap();
    let address = services.amqp.split_once('@').unwrap().1;
    let reader = connect(&with_path(&format!("amqp://{vhost}:secret@{address}"), vhost)).await;
    let channel = reader.create_channel().await.unwrap();
    channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap();
    let made = channel.queue_declare("mine".into(), QueueDeclareOptions::default(), FieldTable::default()).await;
    assert!(made.is_err(), "a reader must not declare");
}

#[tokio::test]
async fn every_test_has_a_bucket_of_its_own_that_never_replaces_what_must_not_be() {
    let services = Services::from_env();
    let (one, other) = tokio::join!(services.fresh_bucket(), services.fresh_bucket());
    let put = |bytes: &'static [u8]| {
        let request = one.client.put_object().bucket(&one.name).key("a/b").if_none_match("*");
        request.body(ByteStream::from_static(bytes)).send()
    };
    put(b"first").await.unwrap();
    let refused = put(b"second").await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 412);
    let read = one.client.get_object().bucket(&one.name).key("a/b").send().await.unwrap();
    assert_eq!(read.body.collect().await.unwrap().into_bytes().as_ref(), b"first");
    let listed = other.client.list_objects_v2().bucket(&other.name).send().await.unwrap();
    assert!(listed.contents().is_empty());
}

#[tokio::test]
async fn a_broker_that_was_killed_keeps_what_it_confirmed() {
    let broker = Broker::start().await;
    let channel = connect(&broker.url()).await.create_channel().await.unwrap();
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("q".into(), durable, quorum).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let sent = channel.basic_publish("".into(), "q".into(), BasicPublishOptions::default(), b"kept", Default::default());
    assert!(sent.await.unwrap().await.unwrap().is_ack());

    broker.kill().await;
    assert!(Connection::connect(&broker.url(), ConnectionProperties::default()).await.is_err());
    broker.start_again().await;
    let channel = connect(&broker.url()).await.create_channel().await.unwrap();
    let found = channel.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap();
    assert_eq!(found.expect("a message").delivery.data, b"kept");
}

#[test]
fn python_has_a_client_of_the_broker() {
    let services = Services::from_env();
    let script = "import pika, sys; pika.BlockingConnection(pika.URLParameters(sys.argv[1])).close()";
    let output = Command::new(&services.python).args(["-c", script, &services.amqp]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
