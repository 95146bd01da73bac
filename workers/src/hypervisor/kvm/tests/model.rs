//! Random writes, zeros, discards, resizes and snapshots by QEMU's own tools, against bytes in memory.

use super::{super::super::suite, *};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const CLUSTER: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

/// What a volume and its snapshots must hold.
struct Model {
    now: Vec<u8>,
    past: Vec<(String, Vec<u8>)>,
    done: Vec<String>,
}

impl Model {
    fn range(&self, random: &mut StdRng) -> Option<(u64, u64)> {
        let size = self.now.len() as u64;
        let at = random.random_range(0..size.max(1));
        let bytes = random.random_range(1..400_000).min(size - at);
        // Sectors and clusters often, odd ends sometimes.
        let unit = [1, 512, CLUSTER][random.random_range(0..3)];
        let (start, end) = (at / unit * unit, (at + bytes).next_multiple_of(unit).min(size));
        (start < end).then_some((start, end))
    }

    fn fill(&mut self, (start, end): (u64, u64), byte: u8) {
        self.now[start as usize..end as usize].fill(byte);
    }

    /// Some commands for one run of `qemu-io`.
    fn writes(&mut self, random: &mut StdRng) -> Vec<String> {
        let mut commands = vec![];
        for _ in 0..random.random_range(1..8) {
            let Some(range) = self.range(random) else { continue };
            let (offset, bytes) = (range.0, range.1 - range.0);
            match random.random_range(0..4) {
                0 | 1 => {
                    let byte = random.random_range(1..=255);
                    commands.push(format!("write -q -P {byte} {offset} {bytes}"));
                    self.fill(range, byte);
                }
                2 => {
                    let may_be_hole = if random.random() { "-u " } else { "" };
                    commands.push(format!("write -q -z {may_be_hole}{offset} {bytes}"));
                    self.fill(range, 0);
                }
                _ => {
                    // A discard of less than a cluster is a hint that does nothing.
                    let whole = (range.0 / CLUSTER * CLUSTER, range.1 / CLUSTER * CLUSTER);
                    if whole.0 < whole.1 {
                        commands.push(format!("discard -q {} {}", whole.0, whole.1 - whole.0));
                        self.fill(whole, 0);
                    }
                }
            }
        }
        self.done.extend(commands.iter().cloned());
        commands
    }
}

async fn check(pool: &Pool, seed: u64, model: &Model) {
    let present = (None, &model.now);
    for (snapshot, expected) in model.past.iter().map(|(name, data)| (Some(name.as_str()), data)).chain([present]) {
        let reader = pool.kvm.reader("volume", snapshot, Some(pool.format)).await.unwrap();
        let found = suite::read_whole(&*reader).await;
        reader.close().await.unwrap();
        let differs = found.iter().zip(expected).position(|(one, other)| one != other);
        let sizes = (found.len(), expected.len());
        assert!(
            sizes.0 == sizes.1 && differs.is_none(),
            "seed {seed}, {snapshot:?}: sizes {sizes:?}, differs at {differs:?} after {:#?}",
            model.done
        );
    }
}

/// One life of a volume. With `below`, it begins as an overlay of these bytes.
async fn live(format: Format, below: Option<(&str, u64)>, seed: u64) {
    let pool = pool(format);
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model { now: vec![0; 2 * MIB as usize], past: vec![], done: vec![] };
    match below {
        Some((format, size)) => {
            let base: Vec<u8> = (0..size).map(|it| (it / 3000 % 255 + 1) as u8).collect();
            let from = pool.beside(&base);
            run("qemu-img", &["convert", "-f", "raw", "-O", format, from.to_str().unwrap(), &pool.text("base")]);
            let text = model.now.len().to_string();
            run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base", "-F", format, &pool.text("volume"), &text]);
            let shared = model.now.len().min(base.len());
            model.now[..shared].copy_from_slice(&base[..shared]);
        }
        None => {
            run("qemu-img", &["create", "-q", "-f", pool.written_format(), &pool.text("volume"), &model.now.len().to_string()])
        }
    }
    for round in 0..6 {
        let commands = model.writes(&mut random);
        let mut args = vec!["-f", pool.written_format(), "-d", "unmap"];
        args.extend(commands.iter().flat_map(|it| ["-c", it.as_str()]));
        let path = pool.text("volume");
        args.push(&path);
        if !commands.is_empty() {
            run("qemu-io", &args);
        }
        if format == Format::Qcow2 && random.random() {
            let name = format!("s{round}");
            run("qemu-img", &["snapshot", "-c", &name, &path]);
            model.done.push(format!("snapshot {name}"));
            model.past.push((name, model.now.clone()));
        }
        if random.random_range(0..3) == 0 {
            let size = random.random_range(1..8 * MIB / 512) * 512;
            run("qemu-img", &["resize", "-q", "--shrink", "-f", pool.written_format(), &path, &size.to_string()]);
            model.done.push(format!("resize {size}"));
            model.now.resize(size as usize, 0);
        }
        if round % 2 == 1 {
            check(&pool, seed, &model).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_volume_reads_as_it_was_written() {
    for seed in 0..4 {
        live(Format::Raw, None, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qcow2_and_its_snapshots_read_as_they_were_written() {
    for seed in 100..106 {
        live(Format::Qcow2, None, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlay_and_its_snapshots_read_as_they_were_written() {
    for (seed, below) in [("raw", 3 * MIB), ("qcow2", MIB), ("raw", MIB / 2 + 512), ("qcow2", 8 * MIB)].into_iter().enumerate() {
        live(Format::Qcow2, Some(below), 200 + seed as u64).await;
    }
}
