//! Engines and workers as processes of the real program, on PostgreSQL, RabbitMQ and S3. The commands are the ones
//! that an operator types. Waiting is on conditions.

use crate::rig::tool;
use longshore_tests::services::{Bucket, Services};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// The arguments of the usual worker.
pub(crate) const WORKER: &[&str] = &["worker", "--kind", "kvm", "--zone", "z1", "--host", "h1"];

/// Longer than a lease, a start window and a copy together, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// An engine and a worker on PostgreSQL, RabbitMQ and S3.
pub(crate) struct Cloud {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) services: Services,
    pub(crate) database: String,
    pub(crate) amqp: String,
    pub(crate) bucket: Bucket,
    environment: Vec<(&'static str, String)>,
    engine: Vec<&'static str>,
    running: BTreeMap<&'static str, Running>,
}

/// How a cloud differs from the usual.
#[derive(Default)]
pub(crate) struct Setup {
    /// A broker of the test's own.
    pub(crate) amqp: Option<String>,
    /// Where S3 is reached, if not at the server itself.
    pub(crate) endpoint: Option<String>,
    /// More arguments of engines.
    pub(crate) engine: Vec<&'static str>,
    /// More of every process's environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// A database of the test's own.
    pub(crate) database: Option<String>,
    /// Bytes of the pool, if not plenty.
    pub(crate) pool_capacity: Option<&'static str>,
    /// Bytes of each store, if not 10 GiB.
    pub(crate) store_capacity: Option<&'static str>,
    /// A second store, `other`, in a directory.
    pub(crate) two: bool,
}

/// A process that dies with the test, and with the tests' process, however that ends.
pub(crate) struct Running {
    part: Child,
    watch: Child,
}

/// Waits for the end of a pipe that only the tests' process holds open, and then kills the part. What asks everybody to end
/// doesn't end this one before.
const WATCH: &str = "trap '' HUP INT TERM; read -r _; kill -9 \"$1\"";

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let part = command.spawn().unwrap();
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "sh", &part.id().to_string()]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Running { part, watch: watch.process_group(0).spawn().unwrap() }
    }

    /// What the death of the tests' process does. How the part ended.
    pub(crate) fn orphaned(&mut self) -> ExitStatus {
        drop(self.watch.stdin.take());
        self.part.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Each may have ended by itself. The watch goes first: it must not kill another process of the part's number.
        for child in [&mut self.watch, &mut self.part] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cloud {
    pub(crate) async fn start(setup: Setup) -> Cloud {
        let services = Services::from_env();
        let dir = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pool")).unwrap();
        let bucket = services.fresh_bucket().await;
        let database = match setup.database {
            Some(database) => database,
            None => services.fresh_database().await,
        };
        let amqp = match setup.amqp {
            Some(amqp) => amqp,
            None => services.fresh_vhost().await,
        };
        let Setup { endpoint, engine, environment, pool_capacity, store_capacity, two, .. } = setup;
        let endpoint = endpoint.unwrap_or_else(|| services.s3_endpoint.clone());
        let mut cloud = Cloud { dir, services, database, amqp, bucket, environment, engine, running: BTreeMap::new() };
        let capacity = store_capacity.unwrap_or("10 GiB");
        let other = cloud.other();
        let second = match two {
            false => String::new(),
            true => format!(
                "[[store]]\nname = \"other\"\nregion = \"r1\"\ncapacity = \"{capacity}\"\ngrace_s = 0\nurl = \"file://{}\"\n",
                other.display()
            ),
        };
        let site = format!(
            "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n\
             [[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"{capacity}\"\ngrace_s = 0\n\
             url = \"s3://{}/prefix\"\nendpoint = \"{endpoint}\"\n\
             signing_region = \"us-east-1\"\npath_style = true\n\
             credentials = {{ access_key = \"env:TEST_KEY\", secret_key = \"env:TEST_SECRET\" }}\n\
             [[pool]]\nname = \"fast\"\nzone = \"z1\"\nhypervisor = \"kvm\"\nurl = \"file://{}/pool\"\ncapacity = \"{}\"\n{second}",
            cloud.bucket.name,
            cloud.dir.path().display(),
            pool_capacity.unwrap_or("100 GiB")
        );
        std::fs::write(cloud.dir.path().join("site.toml"), site).unwrap();
        cloud.say(&["site", "apply", cloud.dir.path().join("site.toml").to_str().unwrap(), "--yes", "--create"]);
        cloud.run_engine("engine", &[]);
        cloud.run("worker", WORKER);
        cloud
            .until("the worker reaches the stores", async |it| {
                let workers = it.say(&["workers", "--json"]);
                let reaches = |place: &str| workers.contains(&format!("\"{place}\""));
                (reaches("main") && reaches("fast") && (reaches("other") || !two)).then_some(())
            })
            .await;
        cloud
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.services.binary);
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("LONGSHORE_DATABASE", &self.database).env("LONGSHORE_BROKER", &self.amqp);
        command.env("TEST_KEY", &self.services.s3_key).env("TEST_SECRET", &self.services.s3_secret);
        // What a killed worker leaves in its folder for temporary files goes with the test.
        command.env("TMPDIR", self.dir.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a part, or starts it again.
    pub(crate) fn run(&mut self, name: &'static str, arguments: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap();
        let part = Running::start(self.command(arguments).stdout(Stdio::null()).stderr(log));
        self.running.insert(name, part);
    }

    /// Starts an engine, or starts it again.
    pub(crate) fn run_engine(&mut self, name: &'static str, more: &[&str]) {
        let arguments = [&["engine"], &*self.engine.clone(), more].concat();
        self.run(name, &arguments);
    }

    /// Sends a signal to a part.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        kill_process(Pid::from_child(&self.running[name].part), signal).unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, name: &str) {
        drop(self.running.remove(name));
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    pub(crate) fn submit(&self, kind: &str, body: &Value) -> String {
        let file = self.dir.path().join("body.json");
        std::fs::write(&file, body.to_string()).unwrap();
        let said = self.say(&["submit", kind, "--body", file.to_str().unwrap(), "--json"]);
        let reply: Value = serde_json::from_str(&said).unwrap();
        reply["operation"].as_str().unwrap().to_owned()
    }

    pub(crate) fn show(&self, id: &str) -> Value {
        serde_json::from_str(&self.say(&["show", id, "--json"])).unwrap()
    }

    pub(crate) async fn ready(&self, id: &str) -> Value {
        self.until(&format!("{id} is ready"), async |it| {
            let view = it.show(id);
            assert_ne!(view["state"], "failed", "{view:#}\n{}", it.logs());
            (view["state"] == "ready").then_some(view)
        })
        .await
    }

    /// Keys and lengths of the packs in the bucket.
    pub(crate) async fn packs(&self) -> BTreeMap<String, i64> {
        self.stored("prefix/packs/").await
    }

    /// Keys and lengths in the bucket, seen behind Longshore's back.
    pub(crate) async fn stored(&self, prefix: &str) -> BTreeMap<String, i64> {
        let list = self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix(prefix);
        let (mut found, mut pages) = (BTreeMap::new(), list.into_paginator().send());
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            found.extend(page.contents().iter().map(|it| (it.key().unwrap().to_owned(), it.size().unwrap())));
        }
        found
    }

    /// Keys and lengths in a store, below its prefix, seen behind Longshore's back.
    pub(crate) async fn stored_in(&self, store: &str) -> BTreeMap<String, i64> {
        if store == "other" {
            return files_below(&self.other(), "");
        }
        let stored = self.stored("prefix/").await;
        stored.into_iter().map(|(key, bytes)| (key["prefix/".len()..].to_owned(), bytes)).collect()
    }

    /// No part has ended by itself.
    pub(crate) fn assert_alive(&mut self) {
        let ended: Vec<_> =
            self.running.iter_mut().filter_map(|(name, it)| Some((*name, it.part.try_wait().unwrap()?))).collect();
        assert!(ended.is_empty(), "ended by themselves: {ended:?}\n{}", self.logs());
    }

    pub(crate) async fn until<T>(&self, what: &str, condition: impl AsyncFn(&Cloud) -> Option<T>) -> T {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let wait = async {
            loop {
                if let Some(found) = condition(self).await {
                    return found;
                }
                ticks.tick().await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain: {what}\n{}\n{}", self.say(&["list"]), self.logs()),
        }
    }

    pub(crate) fn logs(&self) -> String {
        self.running.keys().map(|it| self.log(it)).collect::<Vec<_>>().join("\n")
    }

    /// What a part has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// The folder of the second store.
    pub(crate) fn other(&self) -> PathBuf {
        self.dir.path().join("other")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("pool").join(name)
    }

    /// A volume made from this backup of `disk` is what `disk` is, and the backup's history holds.
    pub(crate) async fn restores(&self, id: &str) {
        let made = self.submit("create-volume", &restore_body(id, "new"));
        self.ready(&made).await;
        self.assert_restored();
        self.say(&["history", id, "--verify"]);
    }

    /// `new` is what `disk` is, both raw.
    pub(crate) fn assert_restored(&self) {
        let [disk, new] = ["disk", "new"].map(|it| self.volume(it).display().to_string());
        tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", &disk, &new]);
    }
}

/// Files with their lengths, by their paths from the folder on.
fn files_below(folder: &Path, prefix: &str) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, about) = (format!("{prefix}{}", entry.file_name().to_str().unwrap()), entry.metadata().unwrap());
        match about.is_dir() {
            true => found.extend(files_below(&entry.path(), &format!("{path}/"))),
            false => drop(found.insert(path, about.len().cast_signed())),
        }
    }
    found
}

/// Asks for a raw volume from a backup.
pub(crate) fn restore_body(from: &str, volume: &str) -> Value {
    json!({"zone": "z1", "from": from, "pool": "fast", "volume": volume, "format": "raw"})
}
