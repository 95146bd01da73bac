//! Random volumes under random writes, zeros, discards, resizes and snapshots, backed up incrementally and restored: they
//! equal a reference model, whatever keeps the books, carries the messages and stores the bytes.

use crate::rig::{Parts, Rig, backup_body, content, make_volume, noise, tool};
use longshore_courier::embedded::Mischief;
use longshore_schema::ids::OperationId;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::path::PathBuf;

/// QEMU's disks are whole sectors, and nothing else is whole here.
const SECTOR: usize = 512;
/// Of the rigs' stores.
const EXTENT: usize = 64 << 10;
/// The last changes and backups come after the resizes and the first deletion.
const ROUNDS: usize = 5;

/// A volume, and what it must hold.
struct Model {
    path: PathBuf,
    format: &'static str,
    bytes: Vec<u8>,
    /// With what each of them holds.
    snapshots: Vec<(String, Vec<u8>)>,
    rng: StdRng,
    /// What was done, for a failure's text.
    told: Vec<String>,
}

impl Model {
    fn new(path: PathBuf, format: &'static str, seed: u64) -> Model {
        let mut rng = StdRng::seed_from_u64(seed);
        let size = rng.random_range(8..20) * EXTENT + rng.random_range(1..EXTENT / SECTOR) * SECTOR;
        let bytes = noise(seed, size);
        make_volume(&path, format, &bytes);
        Model { path, format, bytes, snapshots: vec![], rng, told: vec![format!("{format} of {size}")] }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Writes, zeros and discards, by QEMU's own tool.
    fn change(&mut self) {
        for _ in 0..self.rng.random_range(1..5) {
            let size = self.bytes.len();
            let from = self.rng.random_range(0..size / SECTOR) * SECTOR;
            let length = (self.rng.random_range(1..400) * SECTOR).min(size - from);
            let fill: u8 = self.rng.random();
            let (command, fill) = match self.rng.random_range(0..4) {
                0 => (format!("write -z {from} {length}"), Some(0)),
                1 => (format!("discard {from} {length}"), None),
                _ => (format!("write -P {fill} {from} {length}"), Some(fill)),
            };
            tool("qemu-io", &["-f", self.format, "-c", &command, self.path()]);
            self.told.push(command);
            match fill {
                Some(fill) => self.bytes[from..from + length].fill(fill),
                // What a discarded range reads as is the format's affair; everything else is what it was.
                None => {
                    let now = content(&self.path, self.format);
                    self.bytes[from..from + length].copy_from_slice(&now[from..from + length]);
                }
            }
        }
    }

    fn resize(&mut self, size: usize) {
        self.told.push(format!("resize {size}"));
        match self.format {
            "raw" => std::fs::File::options().write(true).open(&self.path).unwrap().set_len(size as u64).unwrap(),
            _ => drop(tool("qemu-img", &["resize", "--shrink", "-f", self.format, self.path(), &size.to_string()])),
        }
        let kept = self.bytes.len().min(size);
        self.bytes.resize(size, 0);
        if self.format != "raw" {
            // A cluster that was cut keeps its rest, which comes back if the image grows again.
            self.bytes[kept..].copy_from_slice(&content(&self.path, self.format)[kept..]);
        }
    }

    fn grow(&mut self) {
        let size = self.bytes.len() + self.rng.random_range(1..4 * EXTENT / SECTOR) * SECTOR;
        self.resize(size);
    }

    fn shrink(&mut self) {
        let size = self.rng.random_range(EXTENT / SECTOR..self.bytes.len() / SECTOR) * SECTOR;
        self.resize(size);
    }

    fn snapshot(&mut self) {
        let name = format!("s{}", self.snapshots.len());
        tool("qemu-img", &["snapshot", "-c", &name, self.path()]);
        self.told.push(format!("snapshot {name}"));
        self.snapshots.push((name, self.bytes.clone()));
    }

    /// The volume as it is, or any of its snapshots, and what it holds.
    fn any(&mut self) -> (Option<String>, Vec<u8>) {
        assert!(content(&self.path, self.format) == self.bytes, "the model isn't what QEMU reads: {:#?}", self.told);
        let which = self.rng.random_range(0..=self.snapshots.len());
        let (name, bytes) = match self.snapshots.get(which) {
            None => (None, self.bytes.clone()),
            Some((name, bytes)) => (Some(name.clone()), bytes.clone()),
        };
        self.told.push(format!("backup of {name:?}"));
        (name, bytes)
    }
}

/// Prints its seed; `SEED=n` runs that one.
pub(crate) async fn random_volumes_equal_their_model(parts: Parts) -> Mischief {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |it| it.parse().unwrap());
    println!("SEED={seed}");
    let rig = Rig::new(parts).await;
    for format in ["qcow2", "raw"] {
        one_volume(&rig, Model::new(rig.volume(&format!("disk.{format}")), format, seed), seed).await;
    }
    rig.assert_clean().await;
    rig.end().await
}

async fn one_volume(rig: &Rig, mut model: Model, seed: u64) {
    let disk = format!("disk.{}", model.format);
    let mut backups: Vec<(OperationId, Vec<u8>)> = vec![];
    for round in 0..ROUNDS {
        // Each kind of resize once for certain, in either order.
        match (round, seed % 2, model.rng.random_range(0..6)) {
            (1, 0, _) | (2, 1, _) | (4, _, 0) => model.grow(),
            (1, 1, _) | (2, 0, _) | (4, _, 1) => model.shrink(),
            _ => (),
        }
        model.change();
        if model.format == "qcow2" && model.rng.random() {
            model.snapshot();
            model.change();
        }
        let (snapshot, bytes) = model.any();
        let mut body = backup_body(&disk, snapshot.as_deref());
        body["format"] = model.format.into();
        let backup = rig.ready("backup-snapshot", body).await;
        let incremental = backup.output.unwrap()["base"].is_string();
        assert_eq!(incremental, round > 0, "SEED={seed}: {:#?}", model.told);
        backups.push((backup.id, bytes));
        if round == 2 || (round > 0 && model.rng.random_bool(0.2)) {
            let gone = model.rng.random_range(0..backups.len() - 1);
            model.told.push(format!("destroy {gone}"));
            rig.destroyed(backups.remove(gone).0).await;
        }
    }
    for (n, (id, bytes)) in backups.iter().enumerate() {
        let (name, format) = (format!("{}{n}", model.format), ["raw", "qcow2"][n % 2]);
        rig.restore(*id, &name, format).await;
        assert!(content(&rig.volume(&name), format) == *bytes, "SEED={seed}: backup {n} of {:#?}", model.told);
    }
}

/// The contract's rigs keep objects in a directory.
#[tokio::test(flavor = "multi_thread")]
async fn random_volumes_equal_their_model_with_sqlite_channels_and_s3() {
    random_volumes_equal_their_model(Parts::EmbeddedS3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_volumes_equal_their_model_with_postgresql_rabbitmq_and_s3() {
    random_volumes_equal_their_model(Parts::Services).await;
}
