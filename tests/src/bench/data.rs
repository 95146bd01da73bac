//! The data path alone: what `cargo xtask bench data` measures. It goes the product's way (`qemu-nbd`, S3, commit with
//! read-back) without engine and broker. One task as JSON, one line of JSON as answer.

use futures::TryStreamExt;
use longshore_schema::{
    fault::{Fault, code},
    ids::{OperationId, PackId},
    site,
    step::{Attempt, Way},
    steps::{
        object::{About, Base, Root, Sealed},
        volume::Format,
    },
    time::Timestamp,
};
use longshore_workers::{
    datapath::{
        Tuning, Work,
        codec::Encoder,
        commit, copy,
        format::{pack::Kind, packs_prefix},
        restore, resume,
    },
    hypervisor::{Draft, Hypervisor, kvm::Kvm},
    lease::Lease,
    store::{counted::Counted, description, open, probe},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Task {
    /// Tries the store out, unless it is told what it can, and writes `store.json`.
    Found { store: site::Store, extent_size: u32, capabilities: Option<probe::Capabilities> },
    /// Backs a volume up, and commits.
    Backup { store: site::Store, pool: PathBuf, volume: String, base: Option<Base>, tuning: Option<Tuning> },
    /// Makes a volume of an object.
    Restore { store: site::Store, object: OperationId, root: Root, pool: PathBuf, volume: String },
    /// Says what is in the packs that an object's own operation wrote.
    Packs { store: site::Store, object: OperationId },
    /// Sums up what is in the store.
    Usage { store: site::Store },
    /// Reads the parts of a file that aren't holes, as often as it takes on one core, and does one thing to them.
    Limit { file: PathBuf, of: Limit },
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Limit {
    Read,
    Blake3,
    Zstd,
}

/// Does one task, as `xtask/src/bench/longshore.rs` writes it.
pub async fn run(task: &str) -> anyhow::Result<Value> {
    Ok(perform(serde_json::from_str(task)?).await?)
}

async fn perform(task: Task) -> Result<Value, Fault> {
    match task {
        Task::Found { store, extent_size, capabilities } => {
            let capabilities = match capabilities {
                Some(known) => known,
                None => probe::probe(&store).await?,
            };
            let opened = open::open(&store, Some(&capabilities)).await?;
            description::found(&*opened, extent_size, Uuid::nil(), capabilities).await?;
            Ok(json!(capabilities))
        }
        Task::Backup { store, pool, volume, base, tuning } => backup(&store, pool, &volume, base, tuning).await,
        Task::Restore { store, object, root, pool, volume } => restored(&store, object, root, pool, volume).await,
        Task::Packs { store, object } => packs(&store, object).await,
        Task::Usage { store } => {
            let (opened, _) = open::attach(&store, Uuid::nil()).await?;
            let sizes: Vec<u64> = opened.list("").map_ok(|entry| entry.bytes).try_collect().await?;
            Ok(json!({"keys": sizes.len(), "bytes": sizes.iter().sum::<u64>()}))
        }
        Task::Limit { file, of } => limit(&file, of).map_err(|error| Fault::permanent(code::INTERNAL, error.to_string())),
    }
}

async fn backup(
    place: &site::Store,
    pool: PathBuf,
    volume: &str,
    base: Option<Base>,
    tuning: Option<Tuning>,
) -> Result<Value, Fault> {
    let operation = OperationId::new();
    let (store, description) = open::attach(place, Uuid::nil()).await?;
    let counted = Counted::new(store);
    let counts = counted.counts();
    let pool = Kvm::new(pool);
    let measured = pool.measure(volume, None, None).await?;
    let work = Work { store: Arc::new(counted), lease: lease(operation), operation, attempt: 1 };
    let tuning = tuning.unwrap_or_default();
    let text = String::from;
    let (kind, tenant, zone, source) = (text("backup-snapshot"), text("t"), text("z"), format!("pool/{volume}"));
    let copying = copy::Copying {
        reader: pool.reader(volume, None, None).await?,
        frames: None,
        extent_size: description.extent_size,
        base,
        about: About { kind, tenant, zone, name: None, source, created: Timestamp(0), copy_of: None },
        may_write: None,
        read_back: !description.capabilities.checks_bodies(),
        tuning,
    };
    let copied = copy::copy(&work, copying).await?;
    let fetched_by_copy = counts.read_bytes.load(Relaxed);
    let committed = commit::commit_with_fanout(&work, &copied.root, tuning.fanout).await?;
    let requests: u64 = [&counts.puts, &counts.gets, &counts.heads, &counts.lists].iter().map(|it| it.load(Relaxed)).sum();
    Ok(json!({
        "object": operation, "root": copied.root, "virtual_size": measured.virtual_size, "allocated": measured.allocated,
        "read": copied.read, "stored": copied.stored, "reused": copied.reused, "requests": requests,
        "sent": counts.written_bytes.load(Relaxed), "fetched": counts.read_bytes.load(Relaxed),
        "fetched_by_copy": fetched_by_copy, "read_back": copied.read_back + committed.read_back,
        // All else that is got is pages, footers, roots and markers.
        "metadata_read": counts.read_bytes.load(Relaxed).saturating_sub(copied.read_back),
    }))
}

async fn packs(place: &site::Store, object: OperationId) -> Result<Value, Fault> {
    let (store, _) = open::attach(place, Uuid::nil()).await?;
    let listed: Vec<_> = store.list(&packs_prefix(object)).try_collect().await?;
    let (mut extents, mut pages, mut page_bytes) = (0, 0, 0);
    for entry in listed {
        let Some(id) = PackId::of_key(&entry.key) else { continue };
        for frame in resume::read_footer(&store, &Sealed { id, bytes: entry.bytes }).await? {
            match frame.kind {
                Kind::Extent => extents += u64::from(frame.stored),
                Kind::Page(_) => {
                    pages += 1;
                    page_bytes += u64::from(frame.stored);
                }
            }
        }
    }
    Ok(json!({"extent_bytes": extents, "pages": pages, "page_bytes": page_bytes}))
}

async fn restored(place: &site::Store, object: OperationId, root: Root, pool: PathBuf, volume: String) -> Result<Value, Fault> {
    let (store, _) = open::attach(place, Uuid::nil()).await?;
    let counted = Counted::new(store);
    let counts = counted.counts();
    let pool = Kvm::new(pool);
    let draft = Draft { volume, operation: OperationId::new(), attempt: 1 };
    let source = restore::Source { store: Arc::new(counted), object, root };
    let open = async |size| pool.writer(&draft, size, Format::Raw).await;
    let (size, scanned) = restore::restore(&lease(draft.operation), &source, open).await?;
    pool.publish(&draft).await?;
    pool.discard(draft.operation).await?;
    let requests: u64 = [&counts.gets, &counts.heads].iter().map(|it| it.load(Relaxed)).sum();
    Ok(json!({"virtual_size": size, "written": scanned.bytes, "fetched": counts.read_bytes.load(Relaxed), "requests": requests}))
}

fn lease(operation: OperationId) -> Arc<Lease> {
    let attempt = Attempt { operation, seq: 0, n: 1, way: Way::Do };
    Arc::new(Lease::new(attempt, Instant::now() + Duration::from_secs(24 * 3600)))
}

/// One thread, pieces of 256 KiB. Zeros are what isn't a hole, too: pieces of zeros are only read.
fn limit(path: &PathBuf, of: Limit) -> anyhow::Result<Value> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut encoder = Encoder::new(Tuning::default().level)?;
    let mut read: u64 = 0;
    let mut stored: u64 = 0;
    let mut at = 0;
    let mut buffer = vec![0; 256 << 10];
    while at < size {
        let length = buffer.len().min(usize::try_from(size - at)?);
        file.read_exact_at(&mut buffer[..length], at)?;
        at += length as u64;
        if of == Limit::Read || longshore_workers::datapath::hash::is_zero(&buffer[..length]) {
            continue;
        }
        read += length as u64;
        match of {
            Limit::Read => (),
            Limit::Blake3 => drop(std::hint::black_box(longshore_workers::datapath::hash::digest(&buffer[..length]))),
            Limit::Zstd => stored += encoder.page(buffer[..length].to_vec())?.1.len() as u64,
        }
    }
    Ok(json!({"read": size, "data": read, "stored": stored}))
}
