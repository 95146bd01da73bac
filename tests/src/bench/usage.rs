//! What processes have used, from `/proc`: CPU seconds of this one and of a service with all its descendants.

use anyhow::{Context, Result};
use std::{fs, path::Path};
use xtask::services::service::Service;

/// CPU seconds, user and system, of this process so far.
pub fn own_cpu_s() -> Result<f64> {
    cpu_s("self")
}

/// CPU seconds so far of a service started in `scratch`: its processes, and those of them that have ended.
pub fn service_cpu_s(scratch: &Path, name: &str) -> Result<f64> {
    let process = Service::load(scratch, name)?.process().with_context(|| format!("{name} doesn't run"))?;
    // One that ends between the listing and the reading is counted by its parent.
    Ok(process.tree().iter().filter_map(|it| cpu_s(&it.pid.to_string()).ok()).sum())
}

/// The most memory that this process ever had in RAM, in bytes.
pub fn own_peak_bytes() -> Result<u64> {
    own_status_bytes("VmHWM:")
}

/// The memory that this process has in RAM now, in bytes.
pub fn own_resident_bytes() -> Result<u64> {
    own_status_bytes("VmRSS:")
}

fn own_status_bytes(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Fields 14 to 17 of `/proc/PID/stat` (proc(5)): its own time and that of its children that were waited for.
fn cpu_s(pid: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a stat line has a name in parentheses")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(4).map(|it| it.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
