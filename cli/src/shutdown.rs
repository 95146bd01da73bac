//! SIGTERM and SIGINT: the first asks for a clean end, the second ends at once.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first signal cancels. The second one ends the process.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            if stopping.is_cancelled() {
                tracing::warn!("asked to end twice: ending at once");
                std::process::exit(130);
            }
            tracing::info!("asked to end; finishing what is under way");
            stopping.cancel();
        }
    });
    Ok(stop)
}
