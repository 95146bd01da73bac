//! SIGTERM and SIGINT: the first asks for a clean end, the second ends at once, but for a scratch folder.

use anyhow::Context;
use std::{path::PathBuf, sync::OnceLock};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What is removed even when the end is at once.
static SCRATCH: OnceLock<PathBuf> = OnceLock::new();

/// Has a folder removed even when the process ends at once.
pub(crate) fn removes(folder: PathBuf) {
    // The first one stays: there is one demo in a process.
    let _ = SCRATCH.set(folder);
}

/// A token that the first signal cancels. The second one ends the process.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for signal in 1.. {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            if signal > 1 {
                at_once();
            }
            tracing::info!("asked to end; finishing what is under way");
            stopping.cancel();
        }
    });
    Ok(stop)
}

#[expect(clippy::disallowed_methods, reason = "asked twice, and what is under way survives a kill anyway")]
fn at_once() {
    tracing::warn!("asked to end twice: ending at once");
    if let Some(folder) = SCRATCH.get()
        && let Err(error) = std::fs::remove_dir_all(folder)
        && folder.exists()
    {
        eprintln!("{} stays: {error}", folder.display());
    }
    std::process::exit(130);
}
