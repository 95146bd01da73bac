//! Measures the data path on this machine: a mixed disk image in a scratch folder is copied into a file store,
//! copied again with one percent changed, restored and verified, for several extent sizes.
//!
//! `cargo run -p longshore-workers --example datapath -- [MiB] [folder]`

use async_trait::async_trait;
use bytes::Bytes;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    step::{Attempt, Way},
    steps::object::{About, Base, Copied},
    time::Timestamp,
};
use longshore_workers::{
    datapath::{Work, commit, copy, restore, verify},
    hypervisor::{BlockRead, BlockWrite, Extent},
    lease::Lease,
    store::{Store, file::FileStore},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;
const WORDS: [&str; 8] = ["the ", "volume ", "of ", "a ", "snapshot ", "4711 ", "harbour\n", "store "];

/// A raw file: half random, a quarter text, a quarter holes, in pieces of 4 MiB.
struct Image(Arc<File>, u64);

#[async_trait]
impl BlockRead for Image {
    fn size(&self) -> u64 {
        self.1
    }

    async fn extents(&self, offset: u64, bytes: u64) -> Result<Vec<Extent>, Fault> {
        let (mut at, end, mut runs) = (offset, offset + bytes, vec![]);
        while at < end {
            let next = ((at / (4 * MIB as u64) + 1) * 4 * MIB as u64).min(end);
            runs.push(Extent { offset: at, bytes: next - at, zero: (at / (4 * MIB as u64)) % 4 == 3 });
            at = next;
        }
        Ok(runs)
    }

    async fn read(&self, offset: u64, bytes: u32) -> Result<Bytes, Fault> {
        let file = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut out = vec![0; bytes as usize];
            file.read_exact_at(&mut out, offset).map(|()| Bytes::from(out))
        });
        read.await.map_err(fault)?.map_err(fault)
    }

    async fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

#[async_trait]
impl BlockWrite for Image {
    async fn write(&self, offset: u64, data: Bytes) -> Result<(), Fault> {
        let file = self.0.clone();
        tokio::task::spawn_blocking(move || file.write_all_at(&data, offset)).await.map_err(fault)?.map_err(fault)
    }

    async fn zero(&self, _offset: u64, _bytes: u64) -> Result<(), Fault> {
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

fn fault(error: impl std::fmt::Display) -> Fault {
    Fault::permanent(code::INTERNAL, error.to_string())
}

fn make(path: &Path, size: usize) -> std::io::Result<()> {
    let file = File::create(path)?;
    let mut random = StdRng::seed_from_u64(1);
    for piece in 0..size / (4 * MIB) {
        let mut data = vec![0; 4 * MIB];
        match piece % 4 {
            3 => continue,
            2 => {
                let mut text = String::with_capacity(5 * MIB);
                while text.len() < data.len() {
                    text.push_str(WORDS[random.random_range(0..WORDS.len())]);
                }
                data.copy_from_slice(&text.as_bytes()[..4 * MIB]);
            }
            _ => random.fill_bytes(&mut data),
        }
        file.write_all_at(&data, (piece * 4 * MIB) as u64)?;
    }
    file.set_len(size as u64)
}

/// One percent, in pieces of 64 KiB.
fn change(path: &Path, size: usize) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let mut random = StdRng::seed_from_u64(2);
    let mut data = vec![0; 64 << 10];
    for _ in 0..size / 100 / data.len() {
        let piece = random.random_range(0..size / (4 * MIB)) / 4 * 4;
        random.fill_bytes(&mut data);
        file.write_all_at(&data, (piece * 4 * MIB + random.random_range(0..64) * data.len()) as u64)?;
    }
    Ok(())
}

struct Bench {
    image: PathBuf,
    size: u64,
    extent_size: u32,
    store: Arc<dyn Store>,
}

impl Bench {
    async fn backup(&self, base: Option<Base>) -> Result<(OperationId, Copied), Fault> {
        let operation = OperationId::new();
        let attempt = Attempt { operation, seq: 0, n: 1, way: Way::Do };
        let lease = Arc::new(Lease::new(attempt, Instant::now() + Duration::from_secs(3600)));
        let work = Work { store: self.store.clone(), lease, operation, attempt: 1 };
        let reader = Box::new(Image(Arc::new(File::open(&self.image).map_err(fault)?), self.size));
        let text = String::from;
        let (kind, tenant, zone, source) = (text("backup-snapshot"), text("t"), text("z"), text("p/v"));
        let about = About { kind, tenant, zone, name: None, source, created: Timestamp(0) };
        let copying = copy::Copying { reader, extent_size: self.extent_size, base, about, may_write: None };
        let copied = copy::copy(&work, copying).await?;
        commit::commit(&work, &copied.root).await?;
        Ok((operation, copied))
    }

    async fn read(&self, object: OperationId, copied: &Copied, target: Option<PathBuf>) -> Result<(), Fault> {
        let attempt = Attempt { operation: object, seq: 0, n: 1, way: Way::Do };
        let lease = Arc::new(Lease::new(attempt, Instant::now() + Duration::from_secs(3600)));
        let source = restore::Source { store: self.store.clone(), object, root: copied.root.clone() };
        let Some(target) = target else {
            return verify::verify(&lease, &source).await.map(|_| ());
        };
        let open = async |size| {
            let file = File::create(&target).map_err(fault)?;
            file.set_len(size).map_err(fault)?;
            Ok(Box::new(Image(Arc::new(file), size)) as Box<dyn BlockWrite>)
        };
        restore::restore(&lease, &source, open).await.map(|_| ())
    }
}

fn equal(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; 4 * MIB], vec![0; 4 * MIB]);
    let size = one.metadata()?.len();
    for at in (0..size).step_by(4 * MIB) {
        one.read_exact_at(&mut left, at)?;
        other.read_exact_at(&mut right, at)?;
        if left != right {
            return Ok(false);
        }
    }
    Ok(size == other.metadata()?.len())
}

async fn timed<T>(what: &str, size: u64, work: impl Future<Output = Result<T, Fault>>) -> anyhow::Result<T> {
    let (start, before) = (Instant::now(), processor_seconds()?);
    let done = work.await?;
    let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds()? - before);
    print!("  {what} {seconds:.2} s ({:.0} MiB/s), {processor:.2} CPU s", size as f64 / MIB as f64 / seconds);
    Ok(done)
}

/// User and system time of this process, in the kernel's hundredths of a second.
fn processor_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let size = args.next().map_or(Ok(1024), |mib| mib.parse::<usize>())? / 16 * 16 * MIB;
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    for kib in [64, 128, 256, 1024] {
        let scratch = tempfile::tempdir_in(&folder)?;
        let image = scratch.path().join("image");
        make(&image, size)?;
        let directory = scratch.path().join("store");
        std::fs::create_dir(&directory)?;
        let store = Arc::new(FileStore::open(&directory).await?);
        let bench = Bench { image: image.clone(), size: size as u64, extent_size: kib << 10, store };
        print!("{kib:>5} KiB:");
        let (first, copied) = timed("full", bench.size, bench.backup(None)).await?;
        change(&image, size)?;
        let base = Base { object: first, root: copied.root.clone() };
        let (second, again) = timed("incremental", bench.size, bench.backup(Some(base))).await?;
        let target = scratch.path().join("restored");
        timed("restore", bench.size, bench.read(second, &again, Some(target.clone()))).await?;
        timed("verify", bench.size, bench.read(second, &again, None)).await?;
        let same = equal(&image, &target)?;
        println!("  stored {} MiB + {:.1} MiB  equal {same}", copied.stored >> 20, again.stored as f64 / MIB as f64);
        anyhow::ensure!(same, "the restored image differs");
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("most memory at any time: {}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}
