//! Stands between a worker and its steps: holds one back before or after it was done, lets one fail there, does all twice.

use futures::future::BoxFuture;
use longshore_schema::{
    fault::Fault,
    step::{Attempt, Way},
};
use longshore_workers::steps::Between;
use serde_json::Value;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};
use tokio::sync::{Notify, Semaphore};

/// What is done to the steps of one worker: nothing, until it is told.
pub(crate) struct Meddler {
    /// Every handler runs twice.
    pub(crate) twice: AtomicBool,
    pub(crate) fails: Mutex<Option<Failing>>,
    /// Steps that were begun, in their order.
    pub(crate) seen: Mutex<Vec<String>>,
    held: Mutex<Option<Held>>,
    reached: Notify,
    open: Semaphore,
}

/// A step that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    step: String,
    way: Way,
    /// Only after it took effect; else before it begins.
    after: bool,
}

/// A step that fails as long as it is told to.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    pub(crate) step: String,
    pub(crate) way: Way,
    /// Only after it took effect; else instead of it.
    pub(crate) after: bool,
    pub(crate) fault: Fault,
}

impl Meddler {
    pub(crate) fn new() -> Arc<Meddler> {
        Arc::new(Meddler {
            twice: AtomicBool::new(false),
            fails: Mutex::default(),
            seen: Mutex::default(),
            held: Mutex::default(),
            reached: Notify::new(),
            open: Semaphore::new(0),
        })
    }

    /// Holds this step back before it begins, until it is let go.
    pub(crate) fn hold(&self, step: &str, way: Way) {
        *self.held.lock().unwrap() = Some(Held { step: step.to_owned(), way, after: false });
    }

    /// Holds this step back after it took effect and before it says so, until it is let go.
    pub(crate) fn hold_after(&self, step: &str, way: Way) {
        *self.held.lock().unwrap() = Some(Held { step: step.to_owned(), way, after: true });
    }

    /// Resolves when a step is held.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets go what is held; nothing is held from here on.
    pub(crate) fn let_go(&self) {
        self.held.lock().unwrap().take();
        self.open.add_permits(100);
    }

    async fn wait_if_held(&self, at: &Held) {
        let held = self.held.lock().unwrap().as_ref() == Some(at);
        if held {
            self.reached.notify_one();
            self.open.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait::async_trait]
impl Between for Meddler {
    async fn run(
        &self,
        name: &str,
        attempt: Attempt,
        handler: &(dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync),
    ) -> Result<Value, Fault> {
        self.seen.lock().unwrap().push(name.to_owned());
        let here = Held { step: name.to_owned(), way: attempt.way, after: false };
        self.wait_if_held(&here).await;
        let fails = self.fails.lock().unwrap().clone().filter(|it| it.step == name && it.way == attempt.way);
        if let Some(Failing { after: false, fault, .. }) = fails {
            return Err(fault);
        }
        if self.twice.load(SeqCst) {
            handler().await?;
        }
        let done = handler().await?;
        self.wait_if_held(&Held { after: true, ..here }).await;
        fails.map_or(Ok(done), |it| Err(it.fault))
    }
}
