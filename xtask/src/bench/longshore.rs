//! Longshore's data path as a process of its own: `tests/src/bench/data.rs`, one task each time.

use super::{
    measure::{Cost, measure},
    server::Server,
};
use crate::project::{self, target};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;

/// A bucket of its own, with extents of one size.
pub struct Store {
    place: Value,
}

/// An object, or what else a task answered.
pub struct Done {
    /// What it cost.
    pub cost: Cost,
    /// What it said.
    pub said: Value,
}

/// Builds the program.
pub fn build() -> Result<()> {
    project::build("longshore-bench").map(drop)
}

/// With which optimisation it was built.
pub const PROFILE: &str = "dev, longshore-workers at opt-level 3, libraries at 2";

fn task(server: &Server, task: &Value) -> Result<Done> {
    let mut command = server.command(target().join("debug/longshore-bench"));
    let cost = measure(server, command.arg("data").arg(task.to_string()))?;
    let said = serde_json::from_str(&cost.said).with_context(|| format!("read {:?}", cost.said))?;
    Ok(Done { cost, said })
}

impl Store {
    /// Founds it.
    pub fn found(server: &Server, bucket: &str, extent_kib: u32) -> Result<Store> {
        server.make_bucket(bucket)?;
        let place = json!({
            "name": bucket, "url": format!("s3://{bucket}/prefix"), "endpoint": server.endpoint(), "path_style": true,
            "signing_region": "us-east-1", "zone": "z1", "capacity": 1_u64 << 50,
            "credentials": {"access_key": "env:LONGSHORE_BENCH_KEY", "secret_key": "env:LONGSHORE_BENCH_SECRET"},
        });
        let capabilities = server.kind().capabilities();
        task(server, &json!({"do": "found", "store": place, "extent_size": extent_kib << 10, "capabilities": capabilities}))?;
        Ok(Store { place })
    }

    /// Backs a volume up, on top of an earlier object if there is one.
    pub fn backup(&self, server: &Server, volume: &Path, base: Option<&Done>, tuning: Option<Value>) -> Result<Done> {
        let (pool, volume) = parts(volume)?;
        let base = base.map(|done| json!({"object": done.said["object"], "root": done.said["root"]}));
        task(
            server,
            &json!({"do": "backup", "store": self.place, "pool": pool, "volume": volume, "base": base, "tuning": tuning}),
        )
    }

    /// What is in the packs that an object's own operation wrote: `extent_bytes`, `pages`, `page_bytes`.
    pub fn packs(&self, server: &Server, object: &Done) -> Result<Value> {
        Ok(task(server, &json!({"do": "packs", "store": self.place, "object": object.said["object"]}))?.said)
    }

    /// Makes a volume of an object.
    pub fn restore(&self, server: &Server, object: &Done, volume: &Path) -> Result<Done> {
        let (pool, volume) = parts(volume)?;
        let (id, root) = (&object.said["object"], &object.said["root"]);
        task(server, &json!({"do": "restore", "store": self.place, "object": id, "root": root, "pool": pool, "volume": volume}))
    }
}

/// What one core does to the file: `read`, `blake3`, `zstd`.
pub fn limit(server: &Server, volume: &Path, of: &str) -> Result<Done> {
    task(server, &json!({"do": "limit", "file": volume, "of": of}))
}

fn parts(volume: &Path) -> Result<(&Path, &str)> {
    let name = volume.file_name().and_then(|name| name.to_str());
    volume.parent().zip(name).context("a volume in a folder")
}
