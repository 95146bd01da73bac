//! How often a backend tries again by itself, and how long it waits before that.

use std::time::Duration;

/// How often a request is made, at most.
pub(super) const TRIES: u32 = 4;

/// Waits after that many tries: longer after more of them, and not as long as others who failed with us.
pub(super) async fn pause(tries: u32) {
    let most = 100 * (1 << tries.min(6));
    tokio::time::sleep(Duration::from_millis(rand::random_range(most / 4..=most))).await;
}
