//! What the machine allows: durable commits of the database, and confirmed messages of the broker's quorum queues.

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use sea_orm::ConnectionTrait;
use std::{
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

/// Commits a second of one-row updates, by `pgbench` with so many clients for so many seconds.
pub async fn commits_per_s(url: &str, clients: u32, seconds: u32) -> Result<f64> {
    let server = sea_orm::Database::connect(url).await?;
    server.execute_unprepared("CREATE TABLE IF NOT EXISTS limits (id int PRIMARY KEY, n int NOT NULL)").await?;
    let fill = "INSERT INTO limits SELECT id, 0 FROM generate_series(1, 10000) AS id ON CONFLICT DO NOTHING";
    server.execute_unprepared(fill).await?;
    server.close().await?;
    let mut script = tempfile::NamedTempFile::new()?;
    writeln!(script, "\\set id random(1, 10000)\nUPDATE limits SET n = n + 1 WHERE id = :id;")?;
    let output = Command::new("pgbench")
        .env("PATH", format!("/usr/lib/postgresql/15/bin:{}", std::env::var("PATH").unwrap_or_default()))
        .args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string(), "-T", &seconds.to_string(), "-f"])
        .arg(script.path())
        .arg(url)
        .output()
        .context("run pgbench (it comes with Debian's postgresql-15)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let tps = said.lines().find_map(|it| it.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
    tps.with_context(|| format!("pgbench said: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Messages a second through one quorum queue, each published persistently, confirmed, consumed and acknowledged,
/// with so many in flight.
pub async fn messages_per_s(url: &str, in_flight: usize, messages: usize) -> Result<f64> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let publisher = connection.create_channel().await?;
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let queue = "longshore-bench-limit";
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    publisher.queue_declare(queue.into(), durable, arguments).await?;
    let consumer = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = consumer.create_channel().await?;
    channel.basic_qos(u16::try_from(in_flight.max(2)).unwrap_or(u16::MAX), BasicQosOptions::default()).await?;
    let mut inbox = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let body = vec![b'x'; 256];
    let started = Instant::now();
    let consume = async {
        for _ in 0..messages {
            match tokio::time::timeout(Duration::from_secs(30), inbox.next()).await {
                Ok(Some(Ok(delivery))) => delivery.ack(BasicAckOptions::default()).await.map(drop)?,
                other => bail!("the broker stopped delivering: {other:?}"),
            }
        }
        Ok(())
    };
    let publish = async {
        let properties = || BasicProperties::default().with_delivery_mode(2);
        let sent = futures::stream::iter(0..messages).map(|_| async {
            let options = BasicPublishOptions::default();
            publisher.basic_publish("".into(), queue.into(), options, &body, properties()).await?.await
        });
        let mut sent = sent.buffer_unordered(in_flight);
        while let Some(confirmed) = sent.next().await {
            confirmed?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(consume, publish)?;
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    publisher.queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default()).await?;
    Ok(rate)
}
