//! The real program, as processes: a client in another language, and the death of each part in the middle of a
//! copy, or its sleep for longer than its lease.

use crate::{
    cloud::{Cloud, Setup, WORKER},
    rig::{make_volume, noise},
};
use longshore_engine::database::Database;
use longshore_schema::tables::{claim, hold, pack};
use longshore_tests::{
    broker::Broker,
    proxy::{Mischief, Proxy, Rule},
    services::Services,
};
use rustix::process::Signal;
use sea_orm::EntityTrait;
use serde_json::json;
use std::{collections::BTreeSet, process::Command};

/// Large enough that a copy is still under way when its first pack is there.
const LARGE: usize = 384 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_copying_costs_nothing_that_was_stored() {
    let mut cloud = Cloud::start(Setup::default()).await;
    let bytes = noise(1, LARGE);
    let (id, stored) = cloud.half_way(&bytes).await;
    cloud.kill("worker");
    assert_eq!(cloud.show(&id)["state"], "copying");
    cloud.run("worker", WORKER);
    cloud.whole(&id, &stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_while_copying_is_not_missed() {
    let mut cloud = Cloud::start(Setup::default()).await;
    let bytes = noise(2, LARGE);
    let (id, stored) = cloud.half_way(&bytes).await;
    cloud.kill("engine");
    cloud.run_engine("engine", &[]);
    cloud.whole(&id, &stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_while_copying_is_waited_for() {
    let broker = Broker::start().await;
    let cloud = Cloud::start(Setup { amqp: Some(broker.url()), ..Setup::default() }).await;
    let bytes = noise(3, LARGE);
    let (id, stored) = cloud.half_way(&bytes).await;
    broker.kill().await;
    broker.start_again().await;
    cloud.whole(&id, &stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_program_runs_the_main_job_over_the_broker() {
    let mut cloud = Cloud::start(Setup::default()).await;
    cloud.kill("engine");
    let address = "127.0.0.1:0";
    cloud.run_engine("engine", &["--listen", address, "--log", "info"]);
    let http = cloud
        .until("HTTP is answered", async |it| {
            let log = it.logs();
            let line = log.lines().find(|it| it.contains("listening for HTTP"))?;
            let plain: String = line.chars().filter(|it| it.is_ascii_graphic() || *it == ' ').collect();
            let port = plain.rsplit("127.0.0.1:").next()?.chars().take_while(char::is_ascii_digit).collect::<String>();
            (!port.is_empty()).then(|| format!("http://127.0.0.1:{port}"))
        })
        .await;
    make_volume(&cloud.volume("disk"), "qcow2", &noise(4, 8 << 20));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/main_job.py");
    let output = Command::new(&cloud.services.python).args([program, &cloud.amqp, &http]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}\n{}", String::from_utf8_lossy(&output.stderr), cloud.logs());
    let (disk, new) = (cloud.volume("disk"), cloud.volume("new"));
    crate::rig::tool("qemu-img", &["compare", disk.to_str().unwrap(), new.to_str().unwrap()]);
}

/// The late one's pack is held back on its way to the store, and comes when the object is long Ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_lease_changes_nothing_that_is_read() {
    let proxy = Proxy::start(&Services::from_env().s3_endpoint).await;
    let setup = Setup { endpoint: Some(proxy.endpoint.clone()), engine: vec!["--lease-s", "5"], ..Setup::default() };
    let mut cloud = Cloud::start(setup).await;
    cloud.kill("worker");
    cloud.run("worker", &[WORKER, &["--log", "info"]].concat());
    let bytes = noise(5, 160 << 20);
    proxy.play(Rule { skip: 1, times: 1, ..Rule::always("PUT", "/packs/", Mischief::Hold) });
    let (id, stored) = cloud.half_way(&bytes).await;
    cloud.until("a pack is on its way", async |_| (proxy.done() == 1).then_some(())).await;
    cloud.signal("worker", Signal::STOP);
    assert_eq!(cloud.show(&id)["state"], "copying");
    cloud.run("second", &[WORKER, &["--id", "h1-second"]].concat());
    cloud.ready(&id).await;
    let (packs, history) = (cloud.packs().await, cloud.say(&["history", &id, "--json"]));

    proxy.behave();
    let late = cloud
        .until("the late pack is stored", async |it| it.packs().await.into_keys().find(|key| !packs.contains_key(key)))
        .await;
    assert!(late.contains(&format!("{id}/1-")) && !stored.contains_key(&late), "{late}");
    cloud.signal("worker", Signal::CONT);
    cloud.until("the late worker gives up", async |it| it.log("worker").contains("lease.lost").then_some(())).await;
    cloud
        .until("its reports are taken", async |it| {
            let workers = it.say(&["workers", "--json"]);
            let found = workers.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            found.into_iter().any(|it| it["worker"] == "h1-kvm" && it["silent_s"].as_f64() < Some(3.0)).then_some(())
        })
        .await;
    assert_eq!(cloud.say(&["history", &id, "--json"]), history);

    let swept = cloud.submit("sweep-store", &json!({"store": "main"}));
    cloud.ready(&swept).await;
    let database = Database::connect(&cloud.database).await.unwrap();
    let rows = pack::Entity::find().all(database.read()).await.unwrap();
    let rows: BTreeSet<String> = rows.into_iter().map(|it| format!("prefix/packs/{}", it.id)).collect();
    assert_eq!(cloud.packs().await.into_keys().collect::<BTreeSet<_>>(), rows, "the store has what the database knows");
    let verified = cloud.submit("verify-object", &json!({"object": id}));
    cloud.ready(&verified).await;
    cloud.restores(&id, &bytes).await;
    assert_eq!(claim::Entity::find().all(database.read()).await.unwrap(), []);
    assert_eq!(hold::Entity::find().all(database.read()).await.unwrap(), []);
}
