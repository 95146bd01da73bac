//! The program as somebody types it, embedded on SQLite with a directory as store: what it prints, its exit codes, and an
//! engine of another process that ends in the middle.

use crate::rig::{content, make_volume, noise};
use longshore_tests::services::Services;
use sea_orm::ConnectionTrait;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A folder with a site file and a pool, and the program in it.
struct Desk {
    dir: tempfile::TempDir,
    program: PathBuf,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pool")).unwrap();
        let desk = Desk { dir, program: Services::from_env().binary };
        desk.site("1 GiB");
        desk
    }

    fn site(&self, capacity: &str) {
        let folder = self.dir.path().display();
        let site = format!(
            "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n\
             [[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"{capacity}\"\nurl = \"file://{folder}/store\"\n\
             [[pool]]\nname = \"fast\"\nzone = \"z1\"\nhypervisor = \"kvm\"\nurl = \"file://{folder}/pool\"\ncapacity = \"100 GiB\"\n",
        );
        std::fs::write(self.dir.path().join("site.toml"), site).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.tool(&self.program, arguments)
    }

    /// Another program, with the same surroundings.
    fn tool(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("LONGSHORE_DATABASE", format!("sqlite://{}/longshore.db", self.dir.path().display()));
        command.env("LONGSHORE_BROKER", "embedded").env("TMPDIR", self.dir.path());
        command
    }

    fn say(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        Said { code: output.status.code().unwrap(), out, err }
    }

    /// Ends with that code.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> Said {
        let said = self.say(arguments);
        assert_eq!(said.code, code, "{arguments:?}\n{}{}", said.out, said.err);
        said
    }

    /// What it prints as JSON, one line.
    #[track_caller]
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let said = self.ends(code, &[arguments, &["--json"]].concat());
        serde_json::from_str(if code == 0 { &said.out } else { &said.err }).unwrap()
    }

    #[track_caller]
    fn backup(&self, volume: &str) -> String {
        let arguments = ["submit", "backup-snapshot", "--zone", "z1", "--pool", "fast", "--volume", volume, "--store", "main"];
        let made = self.json(0, &arguments);
        assert_eq!(made["state"], "ready");
        made["id"].as_str().unwrap().to_owned()
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("pool").join(name)
    }

    fn restore(&self, from: &str, volume: &str, code: i32) -> Value {
        self.json(code, &["submit", "create-volume", "--zone", "z1", "--from", from, "--pool", "fast", "--volume", volume])
    }

    /// An engine of another process, once it listens.
    fn engine(&self) -> Running {
        let engine = self.command(&["engine", "--lease-s", "5"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let engine = Running(engine);
        until("the engine has workers", || {
            let workers = self.ends(0, &["workers", "--json"]).out;
            (workers.contains("\"fast\"") && workers.contains("\"main\"")).then_some(())
        });
        engine
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each look starts a process, which is pause enough.
fn until<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    (0..10_000).find_map(|_| condition()).unwrap_or_else(|| panic!("in vain: {what}"))
}

#[test]
fn a_store_whose_folder_is_missing_is_made_only_when_that_is_said() {
    let desk = Desk::new();
    assert!(desk.ends(2, &["site", "apply", "site.toml"]).err.contains("--yes"));
    let refused = desk.ends(1, &["site", "apply", "site.toml", "--yes"]);
    assert!(refused.err.contains("store.missing") && refused.err.contains("--create"), "{}", refused.err);
    assert!(!desk.dir.path().join("store").exists());
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    assert!(desk.dir.path().join("store").is_dir());
}

#[test]
fn the_main_job_by_hand_and_what_each_command_says() {
    let desk = Desk::new();
    let bytes = noise(1, 3 << 20);
    make_volume(&desk.volume("disk.qcow2"), "qcow2", &bytes);
    assert!(desk.ends(0, &["doctor"]).out.contains("site apply"));
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    let plan = desk.ends(0, &["plan", "backup-snapshot", "--zone=z1", "--pool=fast", "--volume=disk.qcow2", "--store=main"]);
    assert!(plan.out.contains("point of no return"), "{}", plan.out);
    let id = desk.backup("disk.qcow2");
    desk.restore(&id, "new.raw", 0);
    assert!(content(&desk.volume("new.raw"), "raw") == bytes);

    assert_eq!(desk.restore(&id, "new.raw", 1)["fault"]["code"], "volume.exists");
    let list = desk.ends(0, &["list", "--json"]).out;
    assert_eq!(
        list.lines().map(|it| serde_json::from_str::<Value>(it).unwrap()["state"].clone()).collect::<Vec<_>>(),
        ["failed", "ready", "ready"]
    );
    assert!(desk.ends(0, &["history", &id, "--verify"]).out.contains("copying -> ready"));
    assert!(desk.ends(0, &["verify", &id]).out.contains("every byte is there"));
    desk.ends(0, &["watch", &id]);
    desk.ends(0, &["stores"]);
    for kind in ["retry", "cancel"] {
        desk.ends(1, &[kind, &id]);
    }
    desk.ends(1, &["abandon", &id, "--reason", "to see"]);
    let store = std::fs::read_dir(desk.dir.path().join("store/packs")).unwrap().next().unwrap().unwrap().path();
    let pack = std::fs::read_dir(store).unwrap().map(|it| it.unwrap().path()).max_by_key(|it| it.metadata().unwrap().len());
    std::fs::write(pack.unwrap(), "damaged").unwrap();
    assert!(desk.ends(1, &["verify", &id]).err.contains("object.corrupt"));
    assert!(desk.ends(0, &["doctor"]).out.contains("2 places agree"));
    let gone = desk.ends(0, &["destroy", &id, "--wait"]);
    assert!(gone.out.contains("is destroyed"), "{}", gone.out);
    assert_eq!(desk.json(0, &["show", &id])["state"], "destroyed");
    desk.ends(1, &["submit", "create-volume", "--zone=z1", "--from", &id, "--pool=fast", "--volume=late"]);
}

/// The stores of two zones, in two regions: no worker of a zone is told of the other one's.
#[test]
fn an_object_goes_to_a_store_of_another_region_and_is_restored_there_when_its_source_is_gone() {
    let desk = Desk::new();
    let folder = desk.dir.path().display();
    std::fs::create_dir(desk.dir.path().join("slow")).unwrap();
    let near = std::fs::read_to_string(desk.dir.path().join("site.toml")).unwrap();
    let site = format!(
        "{near}[[zone]]\nname = \"z2\"\nregion = \"r2\"\n\
         [[store]]\nname = \"far\"\nzone = \"z2\"\ncapacity = \"1 GiB\"\nextent_size = \"256 KiB\"\nurl = \"file://{folder}/far\"\n\
         [[pool]]\nname = \"slow\"\nzone = \"z2\"\nhypervisor = \"kvm\"\nurl = \"file://{folder}/slow\"\ncapacity = \"1 GiB\"\n"
    );
    std::fs::write(desk.dir.path().join("site.toml"), site).unwrap();
    let bytes = noise(7, 3 << 20);
    make_volume(&desk.volume("disk"), "raw", &bytes);
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    let id = desk.backup("disk");
    let asked = ["copy-object", "--from", &id, "--store=far", "--name=off-site"];
    let plan = desk.ends(0, &[&["plan"][..], &asked].concat());
    assert!(plan.out.contains("object.transfer") && plan.out.contains("bytes are cut anew"), "{}", plan.out);
    let made = desk.json(0, &[&["submit"][..], &asked].concat());
    assert_eq!([&made["state"], &made["zone"], &made["name"]], ["ready", "z2", "off-site"]);
    let copy = made["id"].as_str().unwrap();
    assert!(desk.ends(0, &["list"]).out.contains("-> far"));
    desk.ends(0, &["destroy", &id, "--wait"]);
    desk.json(0, &["submit", "create-volume", "--zone=z2", "--from", copy, "--pool=slow", "--volume=new.raw"]);
    assert!(content(&desk.dir.path().join("slow/new.raw"), "raw") == bytes);
    assert!(desk.ends(0, &["verify", copy]).out.contains("every byte is there"));
    desk.ends(0, &["destroy", copy, "--wait"]);
}

#[test]
fn who_waits_is_told_why_a_step_is_tried_again() {
    let desk = Desk::new();
    make_volume(&desk.volume("disk"), "raw", &noise(5, 1 << 20));
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    let id = desk.backup("disk");
    let (store, away) = (desk.dir.path().join("store"), desk.dir.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    let waiting = desk.command(&["destroy", &id, "--wait"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut waiting = Running(waiting);
    let mut said = String::new();
    let mut lines = BufReader::new(waiting.0.stderr.take().unwrap());
    while !said.contains("is tried again: store.unavailable") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    std::fs::rename(&away, &store).unwrap();
    assert!(waiting.0.wait().unwrap().success());
    assert_eq!(desk.json(0, &["show", &id])["state"], "destroyed");
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let desk = Desk::new();
    desk.site("1 MiB");
    make_volume(&desk.volume("disk"), "raw", &noise(2, 512 << 10));
    make_volume(&desk.volume("huge"), "raw", &noise(3, 4 << 20));
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    let submit = |volume: &str, more: &[&str]| {
        let volume = format!("--volume={volume}");
        let arguments = ["submit", "backup-snapshot", "--zone=z1", "--pool=fast", "--store=main", &volume];
        desk.say(&[&arguments, more].concat())
    };
    assert_eq!(submit("disk", &["--when-full=refuse"]).code, 0);
    for (volume, code) in [("missing", "volume.missing"), ("../disk", "volume.name-invalid"), ("huge", "store.full")] {
        let said = submit(volume, &["--when-full=refuse"]);
        assert!(said.code == 1 && said.err.contains(code), "{volume}: {} {}", said.code, said.err);
    }
    assert_eq!(submit("disk", &["--colour=blue"]).code, 2);
    desk.ends(4, &["show", "01a20deb-2358-7087-9769-e28115a339c8"]);
    desk.ends(4, &["destroy", "01a20deb-2358-7087-9769-e28115a339c8"]);
    let mut away = desk.command(&["submit", "verify-object", "--object", "01a20deb-2358-7087-9769-e28115a339c8"]);
    let away = away.env("LONGSHORE_BROKER", "amqp://127.0.0.1:1").output().unwrap();
    assert_eq!(away.status.code(), Some(5), "{}", String::from_utf8_lossy(&away.stderr));
}

#[test]
fn whoever_waits_takes_over_when_the_engine_of_another_process_dies() {
    let desk = Desk::new();
    let bytes = noise(4, 300 << 20);
    make_volume(&desk.volume("disk"), "raw", &bytes);
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    let engine = desk.engine();
    let arguments =
        ["submit", "backup-snapshot", "--zone=z1", "--pool=fast", "--volume=disk", "--store=main", "--wait", "--json"];
    let waiting = desk.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let packs = desk.dir.path().join("store/packs");
    until("the first pack is stored", || {
        desk.ends(0, &["list"]);
        std::fs::read_dir(&packs).ok()?.next()?.ok()
    });
    drop(engine);
    let ended = waiting.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let made: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(made["state"], "ready");
    let id = made["id"].as_str().unwrap();
    assert!(desk.ends(0, &["history", id]).out.contains("lease"), "the engine died too late to show anything");
    desk.restore(id, "new.raw", 0);
    assert!(content(&desk.volume("new.raw"), "raw") == bytes);
}

#[tokio::test]
async fn the_doctor_adds_the_books_up() {
    let desk = Desk::new();
    make_volume(&desk.volume("disk"), "raw", &noise(6, 1 << 20));
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    desk.backup("disk");
    assert!(desk.ends(0, &["doctor"]).out.contains("2 places agree"));
    let database = sea_orm::Database::connect(format!("sqlite://{}/longshore.db", desk.dir.path().display())).await.unwrap();
    database.execute_unprepared("UPDATE place SET used = used + 1 WHERE name = 'main'").await.unwrap();
    database.close().await.unwrap();
    let said = desk.ends(1, &["doctor"]).out;
    assert!(said.contains("store main: used is ") && said.contains(" and its rows make "), "{said}");
}

#[test]
fn a_body_from_a_file_that_names_a_key_twice_is_refused_by_its_name() {
    let desk = Desk::new();
    std::fs::write(desk.dir.path().join("body.json"), r#"{"store": "main", "store": "other"}"#).unwrap();
    let refused = desk.json(1, &["submit", "sweep-store", "--body", "body.json"]);
    assert_eq!(refused["fault"]["code"], "command.malformed");
    assert!(refused["fault"]["message"].as_str().unwrap().contains("\"store\" is given twice"), "{refused}");
}

/// What a process says on stderr, line by line.
struct Words(BufReader<std::process::ChildStderr>);

impl Words {
    #[track_caller]
    fn wait_for(&mut self, what: &str) {
        let mut said = String::new();
        while !said.contains(what) {
            assert!(self.0.read_line(&mut said).unwrap() > 0, "it never said {what:?}: {said}");
        }
    }
}

#[test]
fn who_watches_is_told_when_no_engine_is_there_and_when_one_is_again() {
    let desk = Desk::new();
    desk.site("8 MiB");
    for (volume, seed) in [("one", 7), ("two", 8)] {
        make_volume(&desk.volume(volume), "raw", &noise(seed, 5 << 20));
    }
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    desk.backup("one");
    let engine = desk.engine();
    // It waits for space, for as long as this test takes.
    let accepted = desk.json(0, &["submit", "backup-snapshot", "--zone=z1", "--pool=fast", "--volume=two", "--store=main"]);
    let id = accepted["operation"].as_str().unwrap();
    let mut watching = Running(desk.command(&["watch", id]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut words = Words(BufReader::new(watching.0.stderr.take().unwrap()));
    drop(engine);
    words.wait_for("no engine runs on this database");
    let mut late = Running(desk.command(&["watch", id]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    Words(BufReader::new(late.0.stderr.take().unwrap())).wait_for("longshore engine");
    let engine = desk.engine();
    words.wait_for("it goes on");
    desk.ends(0, &["cancel", id]);
    words.wait_for("cancelled");
    assert_eq!(watching.0.wait().unwrap().code(), Some(1));
    drop(engine);
}

#[test]
fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
    let desk = Desk::new();
    desk.ends(0, &["site", "apply", "site.toml", "--yes", "--create"]);
    let name = format!("{}-{}", "x".repeat(80), "映".repeat(30));
    let volume = format!("--volume={name}");
    let failed = desk.json(1, &["submit", "backup-snapshot", "--zone=z1", "--pool=fast", "--store=main", &volume]);
    assert_eq!(failed["fault"]["code"], "volume.missing");
    let id = failed["error"].as_str().unwrap().split(' ').nth(1).unwrap();
    let whole = desk.ends(0, &["list"]).out;
    assert!(whole.lines().count() == 2 && whole.contains(&name), "{whole}");
    for line in ["list", "stores --pools", "workers", "site show", "audit", &format!("history {id}"), &format!("show {id}")] {
        for width in [80, 120] {
            let script = format!("stty cols {width}; exec {} {line}", desk.program.display());
            let said = desk.tool("script", &["-q", "-e", "-c", &script, "/dev/null"]).output().unwrap();
            let said = plain(&String::from_utf8(said.stdout).unwrap());
            assert!(said.contains(id) || !["list", "audit"].contains(&line), "{said}");
            for line in said.lines() {
                assert!(columns(line) <= width, "{} columns: {line}", columns(line));
            }
        }
    }
}

/// Without the sequences that colour it.
fn plain(said: &str) -> String {
    let mut parts = said.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, rest)| rest)).replace('\r', "")
}

/// How wide a line is: the names here have no other wide characters.
fn columns(line: &str) -> usize {
    line.chars().map(|it| if it == '映' { 2 } else { 1 }).sum()
}

/// In a mount namespace of its own, where a small file system is put below the database and filled.
const FULL_DISK: &str = r#"
mkdir db && mount -t tmpfs -o size=4M tmpfs db || exit 10
export LONGSHORE_DATABASE=sqlite://$PWD/db/longshore.db
$LONGSHORE site apply site.toml --yes --create || exit 11
$LONGSHORE engine 2> engine.log & engine=$!
trap 'kill $engine; wait $engine' EXIT
until $LONGSHORE workers --json | grep -q '"pools":\["fast"\].*"stores":\["main"\]'; do kill -0 $engine || exit 12; done
cat /dev/zero > db/fill
$LONGSHORE list 2>&1 | grep "is full" || exit 13
$LONGSHORE submit backup-snapshot --zone=z1 --pool=fast --volume=disk --store=main --wait 2> said & submit=$!
until grep -q "is full" said; do kill -0 $submit || exit 14; done
$LONGSHORE doctor | grep "make room" || exit 15
rm db/fill
wait $submit || exit 16
"#;

#[test]
fn a_full_disk_below_the_database_is_named_and_who_waits_goes_on_once_there_is_room() {
    let desk = Desk::new();
    make_volume(&desk.volume("disk"), "raw", &noise(9, 1 << 20));
    let mut alone = desk.tool("unshare", &["--map-root-user", "--mount", "bash", "-c", FULL_DISK]);
    let ended = alone.env("LONGSHORE", &desk.program).output().unwrap();
    let told = [ended.stdout, ended.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert_eq!(ended.status.code(), Some(0), "{told}");
}
