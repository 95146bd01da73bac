//! What `docker/compose.yml` starts, without containers: its commands, with its environment and its site file, as
//! processes on real services. Nobody is at a terminal there, and nobody adds what a command lacks.

use longshore_tests::services::Services;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");

/// A folder in the place of the containers' file systems.
struct Composed {
    compose: String,
    dir: tempfile::TempDir,
    services: Services,
    database: String,
    broker: String,
}

/// A container's process, which dies with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Composed {
    async fn new() -> Composed {
        let services = Services::from_env();
        let dir = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        let (pool, bucket) = (dir.path().join("volumes"), services.fresh_bucket().await.name);
        std::fs::create_dir(&pool).unwrap();
        let [compose, mut site] = ["compose.yml", "site.toml"].map(|name| said(&Path::new(DOCKER).join(name)));
        for (there, here) in [
            ("http://s3:8333", services.s3_endpoint.as_str()),
            ("s3://longshore/", &format!("s3://{bucket}/")),
            ("/srv/volumes", pool.to_str().unwrap()),
        ] {
            assert!(site.contains(there), "{there}");
            site = site.replace(there, here);
        }
        std::fs::write(dir.path().join("site.toml"), site).unwrap();
        let (database, broker) = (services.fresh_database().await, services.fresh_vhost().await);
        Composed { compose, dir, services, database, broker }
    }

    /// The program with these arguments and the environment that the file gives its containers, and nothing else.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.services.binary);
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        for name in self.environment() {
            let value = match name {
                "LONGSHORE_DATABASE" => &self.database,
                "LONGSHORE_BROKER" => &self.broker,
                "S3_KEY" => &self.services.s3_key,
                "S3_SECRET" => &self.services.s3_secret,
                other => panic!("what is {other} here?"),
            };
            command.env(name, value);
        }
        command
    }

    /// Names in the environment of Longshore's containers.
    fn environment(&self) -> Vec<&str> {
        let (_, block) = self.compose.split_once("environment: &environment\n").unwrap();
        block.lines().map_while(|line| line.strip_prefix("    ")?.split_once(": ")).map(|(name, _)| name).collect()
    }

    /// The command of a service of the file.
    fn service(&self, name: &str) -> Command {
        let (_, service) = self.compose.split_once(&format!("\n  {name}:\n")).unwrap();
        let words = service.lines().find_map(|line| line.trim().strip_prefix("command: [")).unwrap();
        let site = self.dir.path().join("site.toml");
        let words: Vec<&str> = words.trim_end_matches(']').split(", ").collect();
        let here = |word| if word == "/etc/longshore/site.toml" { site.to_str().unwrap() } else { word };
        self.command(&words.into_iter().map(here).collect::<Vec<_>>())
    }

    fn run(&self, name: &str) -> Running {
        let log = std::fs::File::create(self.log(name)).unwrap();
        Running(self.service(name).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn said(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn compose_s_engine_site_and_worker_reach_its_pool_and_its_store() {
    let composed = Composed::new().await;
    let _engine = composed.run("engine");
    let applied = composed.service("site").output().unwrap();
    assert!(applied.status.success(), "site: {}", String::from_utf8_lossy(&applied.stderr));
    let mut worker = composed.run("worker");
    // Each look starts a process, which is pause enough.
    let reached = (0..10_000).any(|_| {
        let ended = worker.0.try_wait().unwrap();
        assert!(ended.is_none(), "the worker: {ended:?} {}", said(&composed.log("worker")));
        let workers = composed.command(&["workers", "--json"]).output().unwrap();
        let workers = String::from_utf8_lossy(&workers.stdout).into_owned();
        workers.contains("\"local\"") && workers.contains("\"s3-main\"")
    });
    assert!(reached, "{}{}", said(&composed.log("engine")), said(&composed.log("worker")));
}
