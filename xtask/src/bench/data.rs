//! `cargo xtask bench data`: one disk, backed up and restored by Longshore and by others, on one server, in one run, and
//! what the machine can do at most. Only figures of one run can be compared.

use super::{
    image, longshore,
    longshore::{Done, Store},
    peers::{self, Restic, same},
    plot,
    report::Report,
    server::{Kind, Server},
    sweep::Sweep,
};
use crate::services::{
    guard::Guard,
    packages::{self, Package},
};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Options of `bench data`.
#[derive(Debug, Args)]
pub struct Options {
    /// One object a line.
    #[arg(long)]
    json: bool,
    /// Size of the disk in GiB, from 0.015625 (16 MiB) to 1024.
    #[arg(long, default_value_t = 4.0, value_parser = gib)]
    size: f64,
    /// The S3 server that everything is measured against.
    #[arg(long, value_enum, default_value_t = Kind::Seaweedfs)]
    server: Kind,
    /// Write docs/performance/data.svg; with s3s-fs, data-s3s-fs.svg.
    #[arg(long)]
    plot: bool,
    /// Only Longshore, with other extents, pages, levels, packs and numbers of requests: what the defaults are chosen by.
    #[arg(long, conflicts_with = "plot")]
    sweep: bool,
    /// How often a sweep measures each choice: its figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), requires = "sweep")]
    rounds: u32,
}

/// GiB: one piece of each kind.
const LEAST: f64 = 0.015625;
/// GiB.
const MOST: f64 = 1024.0;

fn gib(text: &str) -> Result<f64, String> {
    let size: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    if (LEAST..=MOST).contains(&size) { Ok(size) } else { Err(format!("{size} is not in {LEAST}..={MOST}")) }
}

/// Bodies of the limits of sending.
const BODY_MIB: u64 = 32;

/// Measures, and leaves nothing behind.
pub fn run(options: &Options) -> Result<()> {
    use Package::{Curl, LibnbdBin, Python, QemuUtils, Rclone, Restic};
    packages::install(&[Curl, LibnbdBin, Python, QemuUtils, Rclone, Restic])?;
    longshore::build()?;
    let guard = Guard::new()?;
    let folder = guard.folder();
    let measured = Server::start(options.server, folder).and_then(|server| measure(options, &server, folder));
    let stopped = guard.stop();
    measured.and(stopped)
}

fn measure(options: &Options, server: &Server, folder: &Path) -> Result<()> {
    let bytes = (options.size * 64.0) as u64 * 4 * image::PIECE;
    fs::create_dir(folder.join("pool"))?;
    let volume = folder.join("pool/disk");
    eprintln!("longshore is built with the profile {}; making a disk of {} MiB", longshore::PROFILE, bytes >> 20);
    image::make(&volume, bytes)?;
    if options.sweep {
        let Options { rounds, json, .. } = *options;
        return Sweep { server, folder, disk: &volume, bytes, rounds, json }.run();
    }
    Bench { options, server, folder, volume, bytes, report: Report::new(options.json)? }.compare()
}

struct Bench<'a> {
    options: &'a Options,
    server: &'a Server,
    folder: &'a Path,
    volume: std::path::PathBuf,
    bytes: u64,
    report: Report,
}

impl Bench<'_> {
    fn compare(&mut self) -> Result<()> {
        let (server, volume) = (self.server, self.volume.clone());
        let restic = Restic { server, scratch: self.folder };
        restic.init()?;
        let (main, small) = (Store::found(server, "longshore", 256)?, Store::found(server, "longshore-64", 64)?);
        server.make_bucket(peers::LIMITS)?;
        // What a server stores first costs it more, as it makes its own files: nobody's measurement.
        peers::put(server, self.folder, &image::Random(4).bytes(BODY_MIB << 20), 512)?;
        let full = main.backup(server, &volume, None, None)?;
        self.report.add("full", "longshore", &full.cost)?;
        self.report.add("full", "restic", &restic.backup(&volume)?)?;
        self.report.add("full", "rclone", &peers::rclone(server, &volume)?)?;
        self.report.add("full", "nbdcopy | rclone", &peers::nbdcopy(server, &volume, self.folder)?)?;
        let full_64 = small.backup(server, &volume, None, None)?;
        self.report.add("full", "longshore 64 KiB", &full_64.cost)?;
        let limits_cpu = self.limits(sent_mib(&full))?;

        let changed = image::change(&volume, self.bytes)?;
        let incremental = main.backup(server, &volume, Some(&full), None)?;
        self.report.add("incremental", "longshore", &incremental.cost)?;
        self.report.add("incremental", "restic", &restic.backup(&volume)?)?;
        let incremental_64 = small.backup(server, &volume, Some(&full_64), None)?;
        self.report.add("incremental", "longshore 64 KiB", &incremental_64.cost)?;
        let unchanged = main.backup(server, &volume, Some(&incremental), None)?;
        self.report.add("unchanged", "longshore", &unchanged.cost)?;
        self.report.add("unchanged", "restic", &restic.backup(&volume)?)?;

        let restored = self.folder.join("pool/restored");
        self.report.add("restore", "longshore", &main.restore(server, &incremental, &restored)?.cost)?;
        same(&volume, &restored)?;
        fs::remove_file(&restored)?;
        let into = self.folder.join("restic-restored");
        self.report.add("restore", "restic", &restic.restore(&into)?)?;
        same(&volume, &into.join(volume.strip_prefix("/").unwrap_or(&volume)))?;
        fs::remove_dir_all(&into)?;
        self.report.add("restore", "rclone", &peers::rclone_back(server, &restored)?)?;
        fs::remove_file(&restored)?;

        let sparse = self.sparse(&main)?;
        let cores = std::thread::available_parallelism()?.get() as f64;
        let wall = |job| self.report.cost(job, "longshore").map(|cost| cost.wall_s);
        let peak = self.report.rows.iter().filter(|row| row.tool.starts_with("longshore")).map(|row| row.cost.peak_rss_mib);
        let cpu_to_restic = |job| rounded(self.report.cpu_ratio(job, "longshore", "restic"));
        let to_restic = |job| rounded(self.report.ratio(job, "longshore", "restic"));
        // restic doesn't say how much it sent: without the server's counters there is nothing to compare.
        let by_restic = self.report.cost("full", "restic").and_then(|cost| cost.traffic);
        let stored = full.cost.traffic.zip(by_restic).map(|(ours, restic)| ours.sent_mib / restic.sent_mib);
        let mut sums = json!({
            "server": self.options.server, "profile": longshore::PROFILE, "size_mib": self.bytes >> 20, "cores": cores,
            "full_to_restic": to_restic("full"), "incremental_to_restic": to_restic("incremental"),
            "restore_to_restic": to_restic("restore"), "unchanged_to_restic": to_restic("unchanged"),
            "full_cpu_to_restic": cpu_to_restic("full"), "incremental_cpu_to_restic": cpu_to_restic("incremental"),
            "restore_cpu_to_restic": cpu_to_restic("restore"),
            "full_cpu_to_limits": rounded(Some(full.cost.cpu_in_all() / limits_cpu)),
            "full_to_limits": rounded(wall("full").map(|wall| wall / (limits_cpu / cores))),
            "stored_to_restic": rounded(stored),
            "incremental_stored_to_changed": rounded(Some(sent(&incremental) / changed as f64)),
            "incremental_64_stored_to_changed": rounded(Some(sent(&incremental_64) / changed as f64)),
            "peak_rss_mib": peak.fold(0.0, f64::max).round(),
        });
        if let (Some(sums), Value::Object(sparse)) = (sums.as_object_mut(), sparse) {
            sums.extend(sparse);
            sums.retain(|_, value| !value.is_null());
        }
        self.report.end(&sums)?;
        if self.options.plot {
            let title =
                format!("A disk of {} GiB, seconds of wall time, {cores} cores with the server on them", self.bytes >> 30);
            plot::data::drawing(&self.report, &title).write(self.options.server.picture())?;
        }
        Ok(())
    }

    /// What one core, and the server, do at most. The processor seconds that a full backup can't do without.
    fn limits(&mut self, stored_mib: f64) -> Result<f64> {
        let (server, mib) = (self.server, stored_mib.ceil() as u64);
        let mut sum = 0.0;
        let reading = longshore::limit(server, &self.volume, "read")?.cost;
        self.report.add("limit", "read", &reading)?;
        for of in ["blake3", "zstd"] {
            let mut cost = longshore::limit(server, &self.volume, of)?.cost;
            // Its reading is a limit of its own.
            cost.cpu_s = (cost.cpu_s - reading.cpu_s).max(0.0);
            self.report.add("limit", of, &cost)?;
            sum += cost.cpu_s;
        }
        let put = peers::put(server, self.folder, &image::Random(3).bytes(BODY_MIB << 20), mib)?;
        self.report.add("limit", "PUT", &put)?;
        self.report.add("limit", "GET", &peers::get(server, mib, BODY_MIB)?)?;
        Ok(sum + reading.cpu_s + put.cpu_in_all())
    }

    /// A disk of a tebibyte that is nearly empty, and a thousand scattered changes in it.
    fn sparse(&mut self, store: &Store) -> Result<Value> {
        let volume = self.folder.join("pool/sparse");
        image::scatter(&volume, 1 << 40, 4000, 0)?;
        let first = store.backup(self.server, &volume, None, None)?;
        self.report.add("sparse 1 TiB, full", "longshore", &first.cost)?;
        image::scatter(&volume, 1 << 40, 1000, 512 << 10)?;
        let second = store.backup(self.server, &volume, Some(&first), None)?;
        self.report.add("sparse 1 TiB, changed", "longshore", &second.cost)?;
        fs::remove_file(&volume)?;
        let of = |name: &str| second.said[name].as_f64().unwrap_or(0.0);
        // A changed extent is a block of 4 KiB, and the bitmap of its sectors.
        let metadata = of("sent") + of("fetched") - 1000.0 * f64::from(4096 + 64);
        Ok(json!({"sparse_metadata_mib": rounded(Some(metadata / f64::from(1 << 20)))}))
    }
}

/// Bytes that Longshore sent, as it says.
fn sent(done: &Done) -> f64 {
    done.said["sent"].as_f64().unwrap_or(0.0)
}

/// What the server counted of that; what Longshore says, if the server doesn't count.
fn sent_mib(done: &Done) -> f64 {
    done.cost.traffic.map_or(sent(done) / f64::from(1 << 20), |traffic| traffic.sent_mib)
}

fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|value| (value * 1000.0).round() / 1000.0)
}
