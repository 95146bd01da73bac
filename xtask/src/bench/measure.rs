//! Runs a command and says what it cost: wall and processor seconds of it and all its children, the server's processor
//! seconds and traffic meanwhile, and the most memory that it and its children had at one time.

use super::server::{Server, Traffic};
use crate::child;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// What a command cost.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Seconds.
    pub wall_s: f64,
    /// Seconds of processors, of the command and its children.
    pub cpu_s: f64,
    /// The S3 server's meanwhile.
    pub server_cpu_s: f64,
    /// The most that the command and its children had resident at one time.
    pub peak_rss_mib: f64,
    /// Bytes and requests that the server saw, if it counts them.
    #[serde(flatten)]
    pub traffic: Option<Traffic>,
    /// What it printed.
    #[serde(skip)]
    pub said: String,
}

impl Cost {
    /// Processor seconds of the command, its children and the server.
    pub fn cpu_in_all(&self) -> f64 {
        self.cpu_s + self.server_cpu_s
    }
}

/// Runs it to its end; its failure is one.
pub fn measure(server: &Server, command: &mut Command) -> Result<Cost> {
    let (traffic, server_cpu) = (server.traffic()?, cpu_seconds(server.pid())?);
    let start = Instant::now();
    let mut child = child::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut out = child.stdout().context("its output")?;
    let reading = thread::spawn(move || {
        let mut said = String::new();
        out.read_to_string(&mut said).map(|_| said)
    });
    let watched = child.process();
    let mut peak: f64 = 0.0;
    while !watched.wait(LOOK)? {
        peak = peak.max(watched.tree().iter().map(|process| resident_mib(process.pid)).sum());
    }
    // It is a zombie until it is waited for, and still has its times.
    let wall_s = start.elapsed().as_secs_f64();
    let cpu_s = cpu_seconds(watched.pid)?;
    let status = child.wait()?;
    let said = reading.join().map_err(|_| anyhow::anyhow!("the thread that reads panicked"))??;
    if !status.success() {
        bail!("{:?} failed ({status}): {said}", command.get_program());
    }
    let server_cpu_s = cpu_seconds(server.pid())? - server_cpu;
    let traffic = server.traffic()?.zip(traffic).map(|(after, before)| after.since(before));
    Ok(Cost { wall_s, cpu_s, server_cpu_s, peak_rss_mib: peak, traffic, said })
}

/// Seconds that a process and those of its children that it has waited for spent, in the kernel's hundredths.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("look at process {pid}"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.get(11..15).context("a process without times")?.iter().map(|field| field.parse::<f64>());
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_counted_stands_beside_the_rest_and_is_absent_if_it_does_not_count() {
        let cost = |traffic| Cost { wall_s: 1.0, cpu_s: 2.0, server_cpu_s: 3.0, peak_rss_mib: 4.0, traffic, said: String::new() };
        let counted = serde_json::json!(cost(Some(Traffic { sent_mib: 5.0, received_mib: 6.0, requests: 7.0 })));
        assert!(counted["wall_s"] == 1.0 && counted["sent_mib"] == 5.0, "{counted}");
        let uncounted = serde_json::json!(cost(None));
        assert!(uncounted["wall_s"] == 1.0 && uncounted.get("sent_mib").is_none(), "{uncounted}");
    }
}
