//! Every promise of the trait as one named check, for every implementation. A check panics when the promise
//! is broken. Nothing here waits for time to pass: that something does not arrive is shown by what arrives instead.
//!
//! The checks share `longshore.dead`, so they run one after the other on one broker (`run_all`).

pub mod broker;
mod consuming;
mod declaring;
mod publishing;
mod room;
mod settling;

use crate::Courier;
use futures::future::BoxFuture;
use std::sync::Arc;

/// Makes a new connection to the same broker at each call.
pub type Factory = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Courier>> + Send + Sync>;

/// A check, by its name.
pub type Check = (&'static str, fn(Factory) -> BoxFuture<'static, ()>);

/// All of them.
pub fn checks() -> Vec<Check> {
    [publishing::CHECKS, declaring::CHECKS, consuming::CHECKS, settling::CHECKS].concat()
}

/// Runs every check, one after the other; `started` is told the name of each before it runs.
pub async fn run_all(factory: Factory, started: impl Fn(&str)) {
    for (name, check) in checks() {
        started(name);
        check(factory.clone()).await;
    }
}
