//! What was written once is readable for ever: the golden store and messages of `tests/golden`, which never change,
//! by today's code and by a Python program that knows only `docs/store-format.md`; and what is written today by both.

use crate::rig::{Parts, Rig, backup_body, make_volume, noise, tool};
use longshore_engine::{operation as kinds, request};
use longshore_schema::{
    ids::OperationId,
    step::{Step, StepMessage},
    steps::{self, object, sweep, volume},
    wire,
};
use longshore_tests::services::Services;
use longshore_workers::{
    datapath::{commit::committed, restore},
    hypervisor::{Draft, Hypervisor, kvm::Kvm},
    lease::Lease,
    store::{Store, file::FileStore},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden")).join(name)
}

fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// Messages of that sort, by their kind: those of the first version, and those that came later, which have files beside.
fn messages<T: DeserializeOwned>(sort: &str) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    for name in golden_files("messages/").into_iter().filter(|it| it.starts_with(&format!("messages/{sort}"))) {
        found.extend(json::<BTreeMap<String, T>>(&name));
    }
    found
}

fn sha256(path: &Path) -> String {
    tool("sha256sum", &[path.to_str().unwrap()])[..64].to_owned()
}

/// By another program, in another language.
fn restored_by_python(store: &Path, object: OperationId, output: &Path) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/read_store.py");
    let python = Services::from_env().python;
    let object = object.to_string();
    tool(python.to_str().unwrap(), &[program, store.to_str().unwrap(), &object, output.to_str().unwrap()]);
}

/// By today's reader.
async fn restored(store: Arc<dyn Store>, object: OperationId, pool: &Path) -> PathBuf {
    let attempt = longshore_schema::step::Attempt { operation: object, seq: 0, n: 1, way: longshore_schema::step::Way::Do };
    let lease = Arc::new(Lease::new(attempt, Instant::now() + Duration::from_secs(600)));
    let root = committed(&store, object).await.unwrap().expect("a Ready object");
    let draft = Draft { volume: object.to_string(), operation: object, attempt: 1 };
    let kvm = Kvm::new(pool.into());
    let open = async |size| kvm.writer(&draft, size, volume::Format::Raw).await;
    restore::restore(&lease, &restore::Source { store, object, root }, open).await.unwrap();
    kvm.publish(&draft).await.unwrap();
    pool.join(object.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_store_is_restored_bit_for_bit_by_todays_reader_and_by_python() {
    let dir = tempfile::tempdir().unwrap();
    let (store, pool) = (dir.path().join("store"), dir.path().join("pool"));
    std::fs::create_dir(&pool).unwrap();
    tool("cp", &["-r", golden("store").to_str().unwrap(), store.to_str().unwrap()]);
    let opened: Arc<dyn Store> = Arc::new(FileStore::open(&store).await.unwrap());
    let expected: BTreeMap<OperationId, Value> = json("expected.json");
    assert_eq!(expected.len(), 4);
    for (object, expected) in expected {
        let ours = restored(opened.clone(), object, &pool).await;
        let theirs = dir.path().join("theirs");
        restored_by_python(&store, object, &theirs);
        for path in [ours, theirs] {
            assert_eq!(sha256(&path), expected["sha256"], "{object} as {}", path.display());
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_today_is_restored_bit_for_bit_by_python_and_damage_is_refused() {
    let rig = Rig::new(Parts::Embedded).await;
    let mut bytes = noise(1, (20 << 20) + 4608);
    bytes[1 << 20..4 << 20].fill(0);
    bytes[5 << 20..9 << 20].fill(b'x');
    (10 << 20..11 << 20).step_by(2048).for_each(|at| bytes[at..at + 1536].fill(0));
    make_volume(&rig.volume("disk.qcow2"), "qcow2", &bytes);
    let first = rig.backup("disk.qcow2", None).await;
    std::fs::remove_file(rig.volume("disk.qcow2")).unwrap();
    bytes[2 << 20..(2 << 20) + 70_000].fill(7);
    bytes[15 << 20..16 << 20].fill(0);
    make_volume(&rig.volume("disk.qcow2"), "qcow2", &bytes);
    let second = rig.ready("backup-snapshot", backup_body("disk.qcow2", None)).await;
    assert_eq!(second.output.as_ref().unwrap()["base"], first.id.to_string());
    let (store, output) = (rig.dir.path().join("store"), rig.dir.path().join("output"));
    restored_by_python(&store, second.id, &output);
    assert!(std::fs::read(&output).unwrap() == bytes);

    // Whichever attempt wrote it: the largest is the one of extents.
    let packs = std::fs::read_dir(store.join(format!("packs/{}", first.id))).unwrap();
    let pack = packs.map(|it| it.unwrap().path()).max_by_key(|it| it.metadata().unwrap().len()).unwrap();
    let mut damaged = std::fs::read(&pack).unwrap();
    damaged[100] ^= 1;
    std::fs::write(&pack, damaged).unwrap();
    let refused = std::panic::catch_unwind(|| restored_by_python(&store, first.id, &output));
    let said = refused.unwrap_err();
    assert!(said.downcast_ref::<String>().unwrap().contains("extent 0 has another digest"));
    rig.end().await;
}

/// What is in the folder and not golden: the digests themselves, and what is said of all.
const NOT_GOLDEN: [&str; 2] = ["DIGESTS", "README.md"];

/// Lines as `sha256sum` writes and checks them, by the file's name.
fn digests(lines: &str) -> BTreeMap<String, String> {
    let split = |line: &str| line.split_once("  ").map(|(digest, name)| (name.to_owned(), digest.to_owned()));
    lines.lines().map(|line| split(line).unwrap_or_else(|| panic!("{line:?} is no line of sha256sum"))).collect()
}

/// Golden files in a folder, by their names from the golden folder on.
fn golden_files(folder: &str) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(golden(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(golden_files(&format!("{name}/")));
        } else if !NOT_GOLDEN.contains(&name.as_str()) {
            found.push(name);
        }
    }
    found
}

#[test]
fn golden_files_stay_for_ever_as_they_are() {
    let kept = digests(&std::fs::read_to_string(golden("DIGESTS")).unwrap());
    let now: BTreeMap<String, String> = golden_files("").into_iter().map(|name| (name.clone(), sha256(&golden(&name)))).collect();
    let lost: Vec<&String> = kept.iter().filter(|(name, digest)| now.get(*name) != Some(*digest)).map(|it| it.0).collect();
    assert!(
        lost.is_empty(),
        "changed or gone: {lost:#?}\nGolden files stay for ever as they were written, since somebody has such a store or sends such \
         messages. Put them back (`git checkout`) and let today's code read them; a new version of a format or a message gets new \
         files beside these."
    );
    let new: Vec<String> =
        now.iter().filter(|it| !kept.contains_key(it.0)).map(|(name, digest)| format!("{digest}  {name}")).collect();
    assert!(
        new.is_empty(),
        "new golden files need their lines in tests/golden/DIGESTS, from when on they stay:\n{}",
        new.join("\n")
    );
}

/// Every field of `golden` is in `now`, with the same value; `now` may have more.
fn assert_kept(golden: &Value, now: &Value, what: &str) {
    match (golden, now) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().for_each(|(name, value)| assert_kept(value, &now[name], &format!("{what}.{name}")));
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{what}");
            one.iter().zip(other).for_each(|(one, other)| assert_kept(one, other, what));
        }
        _ => assert_eq!(golden, now, "{what}"),
    }
}

/// Read into today's type and written again.
fn kept<T: Serialize + DeserializeOwned>(golden: &Value, what: &str) -> T {
    let read: T = serde_json::from_value(golden.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_kept(golden, &serde_json::to_value(&read).unwrap(), what);
    read
}

#[test]
fn golden_commands_are_understood() {
    let commands: BTreeMap<String, Vec<Value>> = messages("commands");
    let known: BTreeSet<_> = kinds::ALL.iter().map(|it| it.name).chain(request::kinds()).collect();
    assert_eq!(commands.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
    for (kind, bodies) in &commands {
        for body in bodies {
            match kind.as_str() {
                "backup-snapshot" => drop(kept::<kinds::backup_snapshot::BackupSnapshot>(body, kind)),
                "copy-object" => drop(kept::<kinds::copy_object::CopyObject>(body, kind)),
                "create-volume" => drop(kept::<kinds::create_volume::CreateVolume>(body, kind)),
                "sweep-store" => drop(kept::<kinds::sweep_store::SweepStore>(body, kind)),
                "verify-object" => drop(kept::<kinds::verify_object::VerifyObject>(body, kind)),
                request => {
                    assert!(request::find(request).is_some(), "{request}");
                    kept::<OperationId>(&body["operation"], request);
                    // They have no type of their own; `requests` sends the one that has more than an operation.
                    let known = fields_of_schema(&format!("command.{request}.json"));
                    let fields: BTreeSet<String> = body.as_object().unwrap().keys().cloned().collect();
                    assert!(fields.is_subset(&known), "{request}: {fields:?} of {known:?}");
                }
            }
        }
    }
}

/// The fields that a schema of the contract has.
fn fields_of_schema(name: &str) -> BTreeSet<String> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas"));
    let schema: Value = serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

/// The first golden body of a command.
pub(crate) fn command(kind: &str) -> Value {
    let commands: BTreeMap<String, Vec<Value>> = messages("commands");
    commands[kind][0].clone()
}

fn step<S: Step>(golden: &BTreeMap<String, Value>) -> &'static str {
    let it = &golden[S::NAME];
    let message: StepMessage = kept(&it["message"], S::NAME);
    assert_eq!(message.step, S::NAME);
    kept::<S>(&it["message"]["args"], S::NAME);
    kept::<S::Input>(&it["message"]["input"], S::NAME);
    kept::<S::Output>(&it["output"], S::NAME);
    S::NAME
}

#[test]
fn golden_steps_are_understood_with_their_arguments_inputs_and_outputs() {
    let golden: BTreeMap<String, Value> = messages("steps");
    let read = [
        step::<object::Commit>(&golden),
        step::<object::Copy>(&golden),
        step::<object::Discard>(&golden),
        step::<object::Probe>(&golden),
        step::<object::Transfer>(&golden),
        step::<object::Unlink>(&golden),
        step::<object::Verify>(&golden),
        step::<sweep::Delete>(&golden),
        step::<sweep::List>(&golden),
        step::<volume::Discard>(&golden),
        step::<volume::Measure>(&golden),
        step::<volume::Publish>(&golden),
        step::<volume::Remove>(&golden),
        step::<volume::Write>(&golden),
    ];
    assert_eq!(read, steps::NAMES);
    assert_eq!(golden.len(), steps::NAMES.len());
}

fn wire_name(report: &wire::Report) -> &'static str {
    match report {
        wire::Report::Announce(_) => "announce",
        wire::Report::Started { .. } => "started",
        wire::Report::Renew { .. } => "renew",
        wire::Report::Done { .. } => "done",
        wire::Report::Declined { .. } => "declined",
    }
}

#[test]
fn golden_reports_controls_replies_and_events_are_understood() {
    let reports: BTreeMap<String, Value> = json("messages/reports.json");
    for (name, body) in &reports {
        let variant = wire_name(&kept::<wire::Report>(body, name));
        assert!(name.starts_with(variant));
    }
    assert_eq!(reports.len(), 6, "five, and one with a fault");
    let together: Value = json("messages/reports_together.json");
    let read = wire::Report::of_message(together.to_string().as_bytes()).unwrap();
    assert_eq!(read.iter().map(wire_name).collect::<Vec<_>>(), ["done", "declined"]);
    assert_kept(&together["reports"], &serde_json::to_value(&read).unwrap(), "reports together");
    let controls: BTreeMap<String, Value> = json("messages/controls.json");
    for (name, body) in &controls {
        let variant = match kept::<wire::Control>(body, name) {
            wire::Control::Welcome { .. } => "welcome",
            wire::Control::SiteChanged { .. } => "site_changed",
            wire::Control::Go { .. } => "go",
            wire::Control::Renewed { .. } => "renewed",
            wire::Control::Stop { .. } => "stop",
        };
        assert_eq!(name, variant);
    }
    assert_eq!(controls.len(), 5);
    let tokens: BTreeMap<String, Value> = json("messages/tokens.json");
    kept::<wire::Report>(&tokens["started"], "a start with a token");
    kept::<wire::Control>(&tokens["go"], "its answer");
    json::<Vec<Value>>("messages/replies.json").iter().for_each(|it| drop(kept::<wire::Reply>(it, "reply")));
    json::<Vec<Value>>("messages/events.json").iter().for_each(|it| drop(kept::<wire::CloudEvent>(it, "event")));
    json::<Vec<Value>>("messages/progress.json").iter().for_each(|it| drop(kept::<wire::Progress>(it, "progress")));
}
