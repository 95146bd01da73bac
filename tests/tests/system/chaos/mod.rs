//! Everything at once, and parts of it killed or stopped at random instants: two engines, two workers, the broker and
//! the database, under a steady load of every kind of operation and request. Somebody hears all that is announced. At the end a
//! checker reads everything back.
//!
//! `cargo xtask chaos` runs it for as long as wanted; `cargo xtask test` runs a short one.

mod checker;
mod killer;
mod listener;
mod load;
mod report;

use crate::{
    cloud::{Cloud, Setup, WORKER},
    rig::noise,
};
use checker::Checker;
use killer::Killer;
use listener::Listener;
use load::{Client, Life, Tally};
use longshore_engine::database::Database;
use longshore_tests::{broker::Broker, database_server::DatabaseServer};
use report::Report;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// Where snapshots are: a bucket and a directory, side by side.
const STORES: [&str; 2] = ["main", "other"];
/// MiB of each volume. The large one is still being copied when something dies.
const VOLUMES: [usize; 3] = [2, 6, 80];
/// Room for a copy of the large one, and for none of the others beside it: of those that restore, some wait.
const POOL: &str = "84 MiB";

/// A number that the environment gives.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_operation_ends_and_nothing_is_lost_or_left() {
    let seed = setting("SEED").unwrap_or_else(rand::random);
    let kills = setting("LONGSHORE_CHAOS_KILLS").unwrap_or(5);
    assert!(kills > 0, "LONGSHORE_CHAOS_KILLS is 0: nothing would be tried");
    let mut report = Report::new();
    report.begins(seed, kills);
    let (broker, server) = tokio::join!(Broker::start(), DatabaseServer::start());
    let setup = Setup {
        amqp: Some(broker.url()),
        database: Some(server.url()),
        engine: vec!["--lease-s", "5"],
        pool_capacity: Some(POOL),
        // What an abandoned undo may have left stays booked, however long it runs.
        store_capacity: Some("1 TiB"),
        two: true,
        // What is started says when it is up: before that, it rightly ends if it can't reach what was killed.
        environment: vec![(
            "LONGSHORE_LOG",
            "error,lapin=off,longshore::command::engine=info,longshore_workers::worker=info".into(),
        )],
        ..Setup::default()
    };
    let mut cloud = Cloud::start(setup).await;
    cloud.run_engine("second engine", &[]);
    cloud.run("second worker", &[WORKER, &["--id", "h1-second"]].concat());
    for part in ["second engine", "second worker"] {
        killer::up(&cloud, part, 0).await;
    }
    std::fs::create_dir(cloud.dir.path().join("reference")).unwrap();
    let database = Database::connect(&cloud.database).await.unwrap();
    let (enough, tally) = (CancellationToken::new(), Arc::new(Mutex::new(Tally::default())));
    let listener = Listener::listen(&cloud.amqp).await;
    let mut lives = vec![];
    for (n, size) in VOLUMES.into_iter().enumerate() {
        let client = Client::connect(&cloud.amqp, database.clone(), tally.clone()).await;
        let life = Life::new(client, n, seed, cloud.dir.path(), noise(seed.wrapping_add(n as u64), size << 20));
        lives.push(tokio::spawn(life.live(enough.clone())));
    }
    let killer = Killer { cloud: &mut cloud, broker: &broker, server: &server, database: &database };
    let mut lives = futures::future::try_join_all(lives);
    // A life that fails says why; without it the killer would only wait in vain.
    tokio::select! {
        () = killer.run(seed, kills, &mut report) => (),
        failed = &mut lives => panic!("a life ended: {:?}", failed.err()),
    }
    enough.cancel();
    lives.await.unwrap();
    let client = Client::connect(&cloud.amqp, database.clone(), tally.clone()).await;
    let checker = Checker { cloud: &cloud, database: &database, client: &client, listener: &listener, tally: &tally };
    checker::check(checker, &mut report).await;
}
