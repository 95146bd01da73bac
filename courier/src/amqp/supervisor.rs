//! Keeps one connection up: connects, prepares it, shows it to those who use it, notices its loss, and starts
//! over with jittered backoff.

use super::{ANSWER_LIMIT, CLOSE_LIMIT, address::Address, topology::Topology};
use futures::StreamExt;
use lapin::Connection;
use rand::RngExt;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The first pause after a failure; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// One of a courier's connections, as its supervisor needs it.
#[derive(Debug)]
pub(super) struct Side {
    address: Address,
    name: &'static str,
    /// Declared on every new connection, before anyone uses it.
    topology: Option<Arc<Topology>>,
}

/// One of a courier's connections, as its users see it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<Arc<Connection>>>,
    count: watch::Receiver<u64>,
}

/// Pauses that grow, each between half and all of its bound.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff(FIRST_PAUSE)
    }

    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.0 = (self.0 * 2).min(LAST_PAUSE);
        pause
    }
}

impl Link {
    /// The connection, if it is up within this time.
    pub(super) async fn within(&self, time: Duration) -> anyhow::Result<Arc<Connection>> {
        match tokio::time::timeout(time, self.up()).await {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) => anyhow::bail!("the courier is closed"),
            Err(_) => anyhow::bail!("the broker's connection is down"),
        }
    }

    /// The connection, as soon as it is up; `None` when the courier is closed.
    pub(super) async fn up(&self) -> Option<Arc<Connection>> {
        self.current.clone().wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Counts: odd while connected.
    pub(super) fn count(&self) -> watch::Receiver<u64> {
        self.count.clone()
    }
}

impl Side {
    pub(super) fn new(address: Address, name: &'static str, topology: Option<Arc<Topology>>) -> Side {
        Side { address, name, topology }
    }

    /// Connects, or fails; then keeps it up until `stop`.
    pub(super) async fn start(self, stop: &CancellationToken, tasks: &TaskTracker) -> anyhow::Result<Link> {
        let first = Arc::new(self.address.connect(self.name).await?);
        let (current, watched) = watch::channel(Some(first.clone()));
        let (count, counted) = watch::channel(1);
        tasks.spawn(self.keep(first, current, count, stop.clone()));
        Ok(Link { current: watched, count: counted })
    }

    async fn keep(
        self,
        mut connection: Arc<Connection>,
        current: watch::Sender<Option<Arc<Connection>>>,
        count: watch::Sender<u64>,
        stop: CancellationToken,
    ) {
        loop {
            let lost = tokio::select! {
                () = lost(&connection) => true,
                () = stop.cancelled() => false,
            };
            current.send_replace(None);
            count.send_modify(|count| *count += 1);
            if !lost {
                // A broker that holds back this connection doesn't read our goodbye.
                let _gone_either_way = tokio::time::timeout(CLOSE_LIMIT, connection.close(200, "closed".into())).await;
                return;
            }
            tracing::warn!(broker = %self.address, side = self.name, "lost the connection to the broker");
            connection = tokio::select! {
                connection = self.reconnect() => connection,
                () = stop.cancelled() => return,
            };
            tracing::info!(broker = %self.address, side = self.name, "connected to the broker again");
            current.send_replace(Some(connection.clone()));
            count.send_modify(|count| *count += 1);
        }
    }

    async fn reconnect(&self) -> Arc<Connection> {
        let mut backoff = Backoff::new();
        loop {
            tokio::time::sleep(backoff.pause()).await;
            match self.connect().await {
                Ok(connection) => return connection,
                Err(error) => {
                    tracing::warn!(broker = %self.address, side = self.name, error = format!("{error:#}"), "can't connect to the broker yet");
                }
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Arc<Connection>> {
        let connection = Arc::new(self.address.connect(self.name).await?);
        if let Some(topology) = &self.topology {
            tokio::time::timeout(ANSWER_LIMIT, topology.restore(&connection)).await??;
        }
        Ok(connection)
    }
}

/// Returns when the connection is over. An error of one channel is no loss; the end of all of them is.
async fn lost(connection: &Connection) {
    let mut events = std::pin::pin!(connection.events_listener());
    while connection.status().connected() {
        if events.next().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_are_never_none() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= FIRST_PAUSE / 2 && pauses[0] <= FIRST_PAUSE);
        assert!(pauses.iter().all(|pause| *pause <= LAST_PAUSE));
        assert!(pauses[19] >= LAST_PAUSE / 2);
    }
}
