//! The real program, as processes: a client in another language, the death of each part in the middle of a copy, and
//! a worker that sleeps for longer than its lease.

use crate::{
    cloud::{Cloud, Running, Setup, WORKER, restore_body},
    rig::{backup_body, files, make_volume, noise, tool},
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
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    process::Command,
};

/// Three packs: two full ones, and the rest.
const LARGE: usize = 80 << 20;
/// Less than any pack of a volume's content: what pages and footers may come to, all together.
const BESIDES: usize = 1 << 20;
/// In the paths of a first attempt's packs but for its first, and in no other.
const FIRST_ATTEMPTS: [&str; 3] = ["/1-1", "/1-2", "/1-3"];

/// The shortest lease, for those that wait for its end.
fn short_lease() -> Setup {
    Setup { engine: vec!["--lease-s", "5"], ..Setup::default() }
}

/// Engine and worker before a store that may be told to hold requests back.
async fn behind_a_proxy(setup: Setup) -> (Proxy, Cloud) {
    let proxy = Proxy::start(&Services::from_env().s3_endpoint).await;
    let cloud = Cloud::start(Setup { endpoint: Some(proxy.endpoint.clone()), ..setup }).await;
    (proxy, cloud)
}

/// A backup of `disk` of which one pack is in the store, and the others of this attempt are on their way, where they are
/// held until the proxy is told to behave.
async fn half_way(proxy: &Proxy, cloud: &Cloud, what: Mischief) -> (String, BTreeMap<String, i64>) {
    make_volume(&cloud.volume("disk"), "raw", &noise(1, LARGE));
    written_half_way(proxy, cloud, ("backup-snapshot", &backup_body("disk", None)), what).await
}

/// The same of whatever writes an object of `LARGE` bytes.
async fn written_half_way(
    proxy: &Proxy,
    cloud: &Cloud,
    (kind, body): (&str, &Value),
    what: Mischief,
) -> (String, BTreeMap<String, i64>) {
    for part in FIRST_ATTEMPTS {
        proxy.play(Rule::always("PUT", part, what));
    }
    let id = cloud.submit(kind, body);
    let stored = cloud
        .until("a pack is stored, and two more and one of pages are on their way", async |it| {
            let packs = it.packs().await;
            (!packs.is_empty() && proxy.done() == 3).then_some(packs)
        })
        .await;
    assert_eq!(cloud.show(&id)["state"], "copying");
    let sealed = stored.values().sum::<i64>() as usize;
    assert!(stored.len() == 1 && (32 << 20..LARGE / 2).contains(&sealed), "{stored:?}");
    assert!(cloud.stored(&format!("prefix/objects/{id}/")).await.is_empty(), "it has a root already");
    (id, stored)
}

/// The object is Ready, what was stored at the death was neither replaced nor sent again, and it restores bit for bit.
async fn whole(proxy: &Proxy, cloud: &Cloud, id: &str, stored: &BTreeMap<String, i64>) -> Value {
    let view = cloud.ready(id).await;
    let packs = cloud.packs().await;
    for (key, length) in stored {
        assert_eq!(packs.get(key), Some(length), "{key} was replaced or removed");
    }
    let put = proxy.passed("PUT", "/packs/");
    assert!((LARGE..LARGE + BESIDES).contains(&put), "{put} bytes were put for a volume of {LARGE}");
    cloud.restores(id).await;
    view
}

#[test]
fn a_part_ends_with_the_process_of_the_tests_however_that_ends() {
    let mut part = Running::start(Command::new("sleep").arg("1000"));
    assert_eq!(part.orphaned().signal(), Some(Signal::KILL.as_raw()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_copying_costs_nothing_that_was_stored() {
    let (proxy, mut cloud) = behind_a_proxy(short_lease()).await;
    let (id, stored) = half_way(&proxy, &cloud, Mischief::HoldForClient).await;
    cloud.kill("worker");
    proxy.behave();
    assert_eq!(cloud.packs().await, stored, "what was on its way died with the worker");
    cloud.run("worker", WORKER);
    let view = whole(&proxy, &cloud, &id, &stored).await;
    assert!(view["output"]["resumed"].as_u64() >= Some(32 << 20), "{view:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_it_copies_an_object_costs_nothing_that_was_stored() {
    let (proxy, mut cloud) = behind_a_proxy(Setup { two: true, ..short_lease() }).await;
    make_volume(&cloud.volume("disk"), "raw", &noise(1, LARGE));
    let mut body = backup_body("disk", None);
    body["store"] = "other".into();
    let backup = cloud.submit("backup-snapshot", &body);
    let digest = cloud.ready(&backup).await["output"]["digest"].clone();
    let body = json!({"from": backup, "store": "main"});
    let (id, stored) = written_half_way(&proxy, &cloud, ("copy-object", &body), Mischief::HoldForClient).await;
    cloud.kill("worker");
    proxy.behave();
    assert_eq!(cloud.packs().await, stored, "what was on its way died with the worker");
    cloud.run("worker", WORKER);
    let view = whole(&proxy, &cloud, &id, &stored).await;
    assert!(view["output"]["resumed"].as_u64() >= Some(32 << 20), "{view:#}");
    assert_eq!(view["output"]["digest"], digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_while_copying_is_not_missed() {
    let (proxy, mut cloud) = behind_a_proxy(Setup::default()).await;
    let (id, stored) = half_way(&proxy, &cloud, Mischief::HoldForClient).await;
    cloud.kill("engine");
    proxy.behave();
    cloud.run_engine("engine", &[]);
    whole(&proxy, &cloud, &id, &stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_while_copying_is_waited_for() {
    let broker = Broker::start().await;
    let (proxy, cloud) = behind_a_proxy(Setup { amqp: Some(broker.url()), ..Setup::default() }).await;
    let (id, stored) = half_way(&proxy, &cloud, Mischief::HoldForClient).await;
    broker.kill().await;
    proxy.behave();
    broker.start_again().await;
    whole(&proxy, &cloud, &id, &stored).await;
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
    tool("qemu-img", &["compare", disk.to_str().unwrap(), new.to_str().unwrap()]);
}

/// Sends the worker to sleep, and lets another one finish the operation. What is shown of it then.
async fn sleeps_while_another_finishes(cloud: &mut Cloud, id: &str) -> String {
    cloud.signal("worker", Signal::STOP);
    assert_eq!(cloud.show(id)["state"], "copying");
    cloud.run("second", &[WORKER, &["--id", "h1-second"]].concat());
    cloud.ready(id).await;
    cloud.say(&["history", id, "--json"])
}

/// Wakes the worker, and returns once it has given up and all that it says was taken.
async fn wakes(cloud: &Cloud) {
    cloud.signal("worker", Signal::CONT);
    cloud.until("the late worker gives up", async |it| it.log("worker").contains("lease.lost").then_some(())).await;
    cloud
        .until("its reports are taken", async |it| {
            let workers = it.say(&["workers", "--json"]);
            let found = workers.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found.into_iter().any(|it| it["worker"] == "h1-kvm" && it["silent_s"].as_f64() < Some(3.0)).then_some(())
        })
        .await;
}

/// A worker that says when it gives an attempt up.
async fn talkative(cloud: &mut Cloud) {
    cloud.kill("worker");
    cloud.run("worker", &[WORKER, &["--log", "info"]].concat());
}

/// No operation holds anything.
async fn assert_nothing_is_held(database: &Database) {
    assert_eq!(claim::Entity::find().all(database.read()).await.unwrap(), []);
    assert_eq!(hold::Entity::find().all(database.read()).await.unwrap(), []);
}

/// The late one's packs are held back on their way to the store, and come when the object is long Ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_lease_changes_nothing_that_is_read() {
    let (proxy, mut cloud) = behind_a_proxy(short_lease()).await;
    talkative(&mut cloud).await;
    let (id, _) = half_way(&proxy, &cloud, Mischief::Hold).await;
    let history = sleeps_while_another_finishes(&mut cloud, &id).await;
    let (packs, objects) = (cloud.packs().await, cloud.stored("prefix/objects/").await);
    proxy.behave();
    let late = cloud
        .until("the late packs are stored", async |it| {
            let late: Vec<_> = it.packs().await.into_keys().filter(|key| !packs.contains_key(key)).collect();
            (late.len() == 3).then_some(late)
        })
        .await;
    assert!(late.iter().all(|key| key.contains(&format!("{id}/1-"))), "{late:?}");
    wakes(&cloud).await;
    assert_eq!(cloud.say(&["history", &id, "--json"]), history);
    assert_eq!(cloud.stored("prefix/objects/").await, objects);

    let swept = cloud.submit("sweep-store", &json!({"store": "main"}));
    cloud.ready(&swept).await;
    assert_eq!(cloud.packs().await, packs, "what came late, and only that, was swept");
    let database = Database::connect(&cloud.database).await.unwrap();
    let rows = pack::Entity::find().all(database.read()).await.unwrap();
    let rows: BTreeSet<String> = rows.into_iter().map(|it| format!("prefix/packs/{}", it.id)).collect();
    assert_eq!(packs.into_keys().collect::<BTreeSet<_>>(), rows, "the store has what the database knows");
    let verified = cloud.submit("verify-object", &json!({"object": id}));
    cloud.ready(&verified).await;
    cloud.restores(&id).await;
    assert_nothing_is_held(&database).await;
}

/// Some of the volume is written; the rest is held back on its way from the store, and comes when the volume is long Ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_in_the_middle_of_a_restore_changes_nothing_that_is_read() {
    let (proxy, mut cloud) = behind_a_proxy(short_lease()).await;
    talkative(&mut cloud).await;
    make_volume(&cloud.volume("disk"), "raw", &noise(1, 40 << 20));
    let backup = cloud.submit("backup-snapshot", &backup_body("disk", None));
    cloud.ready(&backup).await;
    // Pages and some of the content come, one piece of it doesn't.
    proxy.play(Rule { skip: 3, times: 1, ..Rule::always("GET", "/packs/", Mischief::Hold) });
    let made = cloud.submit("create-volume", &restore_body(&backup, "new"));
    let draft = format!(".longshore-{made}-1.draft");
    let written = |cloud: &Cloud| cloud.volume(&draft).metadata().map_or(0, |it| it.blocks() * 512);
    cloud.until("some of it is written", async |it| (proxy.done() == 1 && written(it) > 0).then_some(())).await;
    let history = sleeps_while_another_finishes(&mut cloud, &made).await;
    cloud.assert_restored();
    let identity = |cloud: &Cloud| cloud.volume("new").metadata().map(|it| (it.ino(), it.mtime_nsec(), it.size())).unwrap();
    let finished = identity(&cloud);

    proxy.behave();
    wakes(&cloud).await;
    assert_eq!(cloud.say(&["history", &made, "--json"]), history);
    assert_eq!(identity(&cloud), finished);
    cloud.assert_restored();
    let left: BTreeSet<_> = files(&cloud.dir.path().join("pool")).into_iter().collect();
    assert_eq!(left, BTreeSet::from(["disk".to_owned(), "new".to_owned()]), "a draft is left");
    cloud.ready(&cloud.submit("verify-object", &json!({"object": backup}))).await;
    assert_nothing_is_held(&Database::connect(&cloud.database).await.unwrap()).await;
}
