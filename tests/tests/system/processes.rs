//! The real program, as processes: a client in another language, and the death of each part in the middle of a
//! copy. The commands are the ones that an operator types.

use crate::rig::{backup_body, content, make_volume, noise};
use longshore_tests::{
    broker::Broker,
    services::{Bucket, Services},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Longer than a lease, a start window and a copy together, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// An engine and a worker on PostgreSQL, RabbitMQ and S3.
struct Cloud {
    dir: tempfile::TempDir,
    services: Services,
    database: String,
    amqp: String,
    bucket: Bucket,
    running: BTreeMap<&'static str, Running>,
}

/// A process that dies with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cloud {
    async fn start(amqp: Option<String>) -> Cloud {
        let services = Services::from_env();
        let dir = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pool")).unwrap();
        let (database, bucket) = (services.fresh_database().await, services.fresh_bucket().await);
        let amqp = match amqp {
            Some(amqp) => amqp,
            None => services.fresh_vhost().await,
        };
        let mut cloud = Cloud { dir, services, database, amqp, bucket, running: BTreeMap::new() };
        let site = format!(
            "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n\
             [[store]]\nname = \"main\"\nregion = \"r1\"\ncapacity = \"10 GiB\"\nurl = \"s3://{}/prefix\"\nendpoint = \"{}\"\n\
             signing_region = \"us-east-1\"\npath_style = true\n\
             credentials = {{ access_key = \"env:TEST_KEY\", secret_key = \"env:TEST_SECRET\" }}\n\
             [[pool]]\nname = \"fast\"\nzone = \"z1\"\nhypervisor = \"kvm\"\nurl = \"file://{}/pool\"\ncapacity = \"100 GiB\"\n",
            cloud.bucket.name,
            cloud.services.s3_endpoint,
            cloud.dir.path().display()
        );
        std::fs::write(cloud.dir.path().join("site.toml"), site).unwrap();
        cloud.say(&["site", "apply", cloud.dir.path().join("site.toml").to_str().unwrap(), "--yes"]);
        cloud.run("engine", &["engine"]);
        cloud.run("worker", &["worker", "--kind", "kvm", "--zone", "z1", "--host", "h1"]);
        cloud
            .until("the worker reaches the store", async |it| {
                let workers = it.say(&["workers", "--json"]);
                (workers.contains("\"main\"") && workers.contains("\"fast\"")).then_some(())
            })
            .await;
        cloud
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.services.binary);
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("LONGSHORE_DATABASE", &self.database).env("LONGSHORE_BROKER", &self.amqp);
        command.env("TEST_KEY", &self.services.s3_key).env("TEST_SECRET", &self.services.s3_secret);
        command
    }

    /// Starts a part, or starts it again.
    fn run(&mut self, name: &'static str, arguments: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap();
        let child = self.command(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.running.insert(name, Running(child));
    }

    /// SIGKILL.
    fn kill(&mut self, name: &str) {
        drop(self.running.remove(name));
    }

    /// Runs a command that must succeed, and returns what it printed.
    fn say(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    fn submit(&self, kind: &str, body: &Value) -> String {
        let file = self.dir.path().join("body.json");
        std::fs::write(&file, body.to_string()).unwrap();
        let said = self.say(&["submit", kind, "--body", file.to_str().unwrap(), "--json"]);
        let reply: Value = serde_json::from_str(&said).unwrap();
        reply["operation"].as_str().unwrap().to_owned()
    }

    fn show(&self, id: &str) -> Value {
        serde_json::from_str(&self.say(&["show", id, "--json"])).unwrap()
    }

    async fn ready(&self, id: &str) -> Value {
        self.until(&format!("{id} is ready"), async |it| {
            let view = it.show(id);
            assert_ne!(view["state"], "failed", "{view:#}\n{}", it.logs());
            (view["state"] == "ready").then_some(view)
        })
        .await
    }

    /// Keys and lengths of the packs in the bucket.
    async fn packs(&self) -> BTreeMap<String, i64> {
        let listed = self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix("prefix/packs/").send().await.unwrap();
        let objects = listed.contents().iter();
        objects.map(|it| (it.key().unwrap().to_owned(), it.size().unwrap())).collect()
    }

    async fn until<T>(&self, what: &str, condition: impl AsyncFn(&Cloud) -> Option<T>) -> T {
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

    fn logs(&self) -> String {
        ["engine", "worker"].map(|it| std::fs::read_to_string(self.dir.path().join(it)).unwrap_or_default()).join("\n")
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("pool").join(name)
    }

    /// Starts a backup of a volume of incompressible bytes, and returns once some of it is stored.
    async fn half_way(&self, bytes: &[u8]) -> (String, BTreeMap<String, i64>) {
        make_volume(&self.volume("disk"), "raw", bytes);
        let id = self.submit("backup-snapshot", &backup_body("disk", None));
        let stored = self
            .until("the first packs are stored", async |it| {
                let packs = it.packs().await;
                (!packs.is_empty()).then_some(packs)
            })
            .await;
        (id, stored)
    }

    /// The backup is Ready, nothing that was stored was sent again, and it restores bit for bit.
    async fn whole(&self, id: &str, stored: &BTreeMap<String, i64>, bytes: &[u8]) {
        self.ready(id).await;
        let packs = self.packs().await;
        for (key, length) in stored {
            assert_eq!(packs.get(key), Some(length), "{key} was replaced or removed");
        }
        let all: i64 = packs.values().sum();
        let most = bytes.len() as i64 + (8 << 20);
        assert!(all < most, "{all} bytes were put for a volume of {}: something was sent twice", bytes.len());
        let made =
            self.submit("create-volume", &json!({"zone": "z1", "from": id, "pool": "fast", "volume": "new", "format": "raw"}));
        self.ready(&made).await;
        assert!(content(&self.volume("new"), "raw") == bytes);
        self.say(&["history", id, "--verify"]);
    }
}

/// Large enough that a copy is still under way when its first pack is there.
const LARGE: usize = 384 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_copying_costs_nothing_that_was_stored() {
    let mut cloud = Cloud::start(None).await;
    let bytes = noise(1, LARGE);
    let (id, stored) = cloud.half_way(&bytes).await;
    cloud.kill("worker");
    assert_eq!(cloud.show(&id)["state"], "copying");
    cloud.run("worker", &["worker", "--kind", "kvm", "--zone", "z1", "--host", "h1"]);
    cloud.whole(&id, &stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_while_copying_is_not_missed() {
    let mut cloud = Cloud::start(None).await;
    let bytes = noise(2, LARGE);
    let (id, stored) = cloud.half_way(&bytes).await;
    cloud.kill("engine");
    cloud.run("engine", &["engine"]);
    cloud.whole(&id, &stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_while_copying_is_waited_for() {
    let broker = Broker::start().await;
    let cloud = Cloud::start(Some(broker.url())).await;
    let bytes = noise(3, LARGE);
    let (id, stored) = cloud.half_way(&bytes).await;
    broker.kill().await;
    broker.start_again().await;
    cloud.whole(&id, &stored, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_program_runs_the_main_job_over_the_broker() {
    let mut cloud = Cloud::start(None).await;
    cloud.kill("engine");
    let address = "127.0.0.1:0";
    cloud.run("engine", &["engine", "--listen", address, "--log", "info"]);
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
