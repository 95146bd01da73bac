//! `cargo xtask bench data --sweep`: only Longshore, with other extents, pages, levels, packs and numbers of requests: what the
//! defaults are chosen by. Every round measures each choice once, so that what else the machine does falls on all alike; a
//! figure is the median of its rounds.

use super::{
    image,
    longshore::{Done, Store},
    peers::same,
    server::Server,
};
use crate::output;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Extents of all choices that are about something else.
const EXTENT_KIB: u32 = 256;
/// Bytes of the disk that is nearly empty.
const SPARSE: u64 = 1 << 40;

/// What differs from the defaults.
struct Choice {
    extent_kib: u32,
    /// As `datapath::Tuning` of the workers has it.
    tuning: Value,
}

/// By name, whatever was measured.
type Figures = BTreeMap<&'static str, f64>;

/// One job of one choice.
struct Row {
    choice: usize,
    job: &'static str,
    rounds: Vec<Figures>,
}

/// How it is run.
pub struct Sweep<'a> {
    /// Against which server.
    pub server: &'a Server,
    /// Where there is room.
    pub folder: &'a Path,
    /// The disk.
    pub disk: &'a Path,
    /// Its size.
    pub bytes: u64,
    /// How often each choice is measured.
    pub rounds: u32,
    /// One object a line.
    pub json: bool,
}

/// Disks that stay as they are, so that every round measures the same.
struct Volumes {
    /// The disk, after one percent of it has changed.
    changed: PathBuf,
    /// 4,000 blocks in a tebibyte.
    sparse: PathBuf,
    /// The same with a thousand more.
    scattered: PathBuf,
}

fn choices() -> Vec<Choice> {
    let extents = [EXTENT_KIB, 64, 1024, 4096].map(|extent_kib| Choice { extent_kib, tuning: json!({}) });
    let tunings = [
        json!({"fanout": 32}),
        json!({"fanout": 64}),
        json!({"fanout": 256}),
        json!({"fanout": 512}),
        json!({"fanout": 1024}),
        json!({"level": 3}),
        json!({"level": -1}),
        json!({"pack_bytes": 8 << 20}),
        json!({"pack_bytes": 16 << 20}),
        json!({"puts": 1}),
        json!({"puts": 2}),
        json!({"puts": 8}),
        json!({"spans": 4}),
        json!({"spans": 16}),
    ];
    extents.into_iter().chain(tunings.map(|tuning| Choice { extent_kib: EXTENT_KIB, tuning })).collect()
}

impl Choice {
    fn name(&self) -> String {
        match self.tuning.as_object().and_then(|it| it.iter().next()) {
            Some((what, value)) => format!("{what} {value}"),
            None if self.extent_kib == EXTENT_KIB => "defaults".into(),
            None => format!("extents {} KiB", self.extent_kib),
        }
    }

    /// Whether the product's own reader takes what it makes.
    fn is_readable(&self) -> bool {
        self.tuning.get("fanout").is_none()
    }
}

impl Sweep<'_> {
    /// Measures, and prints a line for each choice and job.
    pub fn run(&self) -> Result<()> {
        let (volumes, choices) = (self.volumes()?, choices());
        eprintln!("once without being measured, as what a server stores first costs it more");
        self.measure(&choices[0], &volumes, "sweep-first")?;
        let mut rows = vec![];
        let measured = self.measure_all(&choices, &volumes, &mut rows);
        // What was measured before a failure took long enough to be told.
        if !self.json {
            head()?;
        }
        for row in rows {
            let (choice, figures) = (&choices[row.choice], medians(&row.rounds));
            match self.json {
                true => output::line(self.line(choice, &row, &figures))?,
                false => table(&choice.name(), row.job, &figures)?,
            }
        }
        measured
    }

    fn measure_all(&self, choices: &[Choice], volumes: &Volumes, rows: &mut Vec<Row>) -> Result<()> {
        for round in 1..=self.rounds {
            for (number, choice) in choices.iter().enumerate() {
                eprintln!("round {round} of {}: {}", self.rounds, choice.name());
                for (job, figures) in self.measure(choice, volumes, &format!("sweep-{round}-{number}"))? {
                    match rows.iter_mut().find(|row| row.choice == number && row.job == job) {
                        Some(row) => row.rounds.push(figures),
                        None => rows.push(Row { choice: number, job, rounds: vec![figures] }),
                    }
                }
            }
        }
        Ok(())
    }

    fn volumes(&self) -> Result<Volumes> {
        let pool = self.disk.parent().context("a disk in a folder")?;
        let [changed, sparse, scattered] = ["changed", "sparse", "scattered"].map(|name| pool.join(name));
        image::make(&changed, self.bytes)?;
        image::change(&changed, self.bytes)?;
        for volume in [&sparse, &scattered] {
            image::scatter(volume, SPARSE, 4000, 0)?;
        }
        image::scatter(&scattered, SPARSE, 1000, 512 << 10)?;
        Ok(Volumes { changed, sparse, scattered })
    }

    /// All jobs of one choice, in a bucket that is gone afterwards: all of them together would need much room.
    fn measure(&self, choice: &Choice, volumes: &Volumes, bucket: &str) -> Result<Vec<(&'static str, Figures)>> {
        let store = Store::found(self.server, bucket, choice.extent_kib)?;
        let (full, full_figures) = self.backup(&store, choice, self.disk, None)?;
        let (changed, changed_figures) = self.backup(&store, choice, &volumes.changed, Some(&full))?;
        let mut measured = vec![("full", full_figures), ("incremental", changed_figures)];
        if choice.is_readable() {
            let restored = self.folder.join("pool/restored");
            measured.push(("restore", figures(&store.restore(self.server, &changed, &restored)?)));
            same(&volumes.changed, &restored)?;
            fs::remove_file(&restored)?;
        }
        let (sparse, sparse_figures) = self.backup(&store, choice, &volumes.sparse, None)?;
        let (_, scattered_figures) = self.backup(&store, choice, &volumes.scattered, Some(&sparse))?;
        measured.extend([("sparse 1 TiB, full", sparse_figures), ("sparse 1 TiB, changed", scattered_figures)]);
        self.server.remove_bucket(bucket)?;
        Ok(measured)
    }

    fn backup(&self, store: &Store, choice: &Choice, volume: &Path, base: Option<&Done>) -> Result<(Done, Figures)> {
        let done = store.backup(self.server, volume, base, Some(choice.tuning.clone()))?;
        // Asked by a process of its own: it is not part of what is measured.
        let packs = store.packs(self.server, &done)?;
        let mut figures = figures(&done);
        let written = number(&done.said, "sent")? - number(&packs, "extent_bytes")?;
        figures.insert("metadata_written_mib", mib(written));
        figures.insert("metadata_read_mib", mib(number(&done.said, "metadata_read")?));
        figures.insert("pages", number(&packs, "pages")?);
        Ok((done, figures))
    }

    fn line(&self, choice: &Choice, row: &Row, figures: &Figures) -> Value {
        let mut line = json!({
            "bench": "data", "choice": choice.name(), "job": row.job, "rounds": row.rounds.len(), "server": self.server.kind(),
            "size_mib": self.bytes >> 20, "extent_kib": choice.extent_kib, "tuning": choice.tuning,
        });
        for (name, value) in figures {
            line[*name] = json!((value * 1000.0).round() / 1000.0);
        }
        line
    }
}

/// Bytes as Longshore says, since a server's counters forget buckets that nobody uses any more.
fn figures(done: &Done) -> Figures {
    let said = |name: &str| done.said[name].as_f64();
    let measured = [
        ("wall_s", Some(done.cost.wall_s)),
        ("cpu_s", Some(done.cost.cpu_s)),
        ("server_cpu_s", Some(done.cost.server_cpu_s)),
        ("peak_rss_mib", Some(done.cost.peak_rss_mib)),
        ("sent_mib", said("sent").map(mib)),
        ("fetched_mib", said("fetched").map(mib)),
        ("requests", said("requests")),
    ];
    measured.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn number(of: &Value, name: &str) -> Result<f64> {
    of[name].as_f64().with_context(|| format!("no {name} in {of}"))
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// Of each figure, and the least and the most wall time.
fn medians(rounds: &[Figures]) -> Figures {
    let sorted = |name: &str| {
        let mut values: Vec<f64> = rounds.iter().filter_map(|figures| figures.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |values: &[f64]| (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    let mut all: Figures = rounds.iter().flat_map(BTreeMap::keys).map(|&name| (name, median(&sorted(name)))).collect();
    let walls = sorted("wall_s");
    if let (Some(least), Some(most)) = (walls.first(), walls.last()) {
        all.extend([("wall_s_least", *least), ("wall_s_most", *most)]);
    }
    all
}

fn head() -> Result<()> {
    output::line(format_args!(
        "{:20} {:21} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9}",
        "choice",
        "job",
        "wall s",
        "least",
        "most",
        "CPU s",
        "server s",
        "peak MiB",
        "sent MiB",
        "requests",
        "pages",
        "meta out",
        "meta in"
    ))
}

fn table(choice: &str, job: &str, figures: &Figures) -> Result<()> {
    let cell = |name: &str, width: usize, digits: usize| match figures.get(name) {
        Some(value) => format!("{value:width$.digits$}"),
        None => format!("{:>width$}", "-"),
    };
    let cells = [
        cell("wall_s", 8, 2),
        cell("wall_s_least", 8, 2),
        cell("wall_s_most", 8, 2),
        cell("cpu_s", 8, 2),
        cell("server_cpu_s", 8, 2),
        cell("peak_rss_mib", 9, 0),
        cell("sent_mib", 9, 1),
        cell("requests", 9, 0),
        cell("pages", 8, 0),
        cell("metadata_written_mib", 9, 3),
        cell("metadata_read_mib", 9, 3),
    ];
    output::line(format_args!("{choice:20} {job:21} {}", cells.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_rounds_and_wall_time_has_its_limits() {
        let round = |wall: f64, sent: f64| Figures::from([("wall_s", wall), ("sent_mib", sent)]);
        let rounds = [round(9.0, 1.0), round(2.0, 1.0), round(3.0, 1.0)];
        let expected = [("wall_s", 3.0), ("sent_mib", 1.0), ("wall_s_least", 2.0), ("wall_s_most", 9.0)];
        assert_eq!(medians(&rounds), Figures::from(expected));
        assert_eq!(medians(&rounds[..2])["wall_s"], 5.5);
        assert_eq!(medians(&rounds[..1])["wall_s"], 9.0);
    }

    #[test]
    fn every_choice_has_a_name_of_its_own_and_differs_from_the_defaults_in_one_thing() {
        let choices = choices();
        let names: std::collections::BTreeSet<String> = choices.iter().map(Choice::name).collect();
        assert_eq!((names.len(), choices[0].name().as_str()), (choices.len(), "defaults"));
        for choice in &choices[1..] {
            let tuned = choice.tuning.as_object().map_or(0, serde_json::Map::len);
            assert_eq!(tuned + usize::from(choice.extent_kib != EXTENT_KIB), 1, "{}", choice.name());
        }
        assert!(choices.iter().any(|choice| !choice.is_readable()) && choices[0].is_readable());
    }
}
