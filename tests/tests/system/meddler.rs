//! Stands between a worker and its steps: holds one back, lets one fail before or after it was done, does all twice.

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
    held: Mutex<Option<(String, Way)>>,
    reached: Notify,
    open: Semaphore,
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
        *self.held.lock().unwrap() = Some((step.to_owned(), way));
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
        let held = self.held.lock().unwrap().as_ref().is_some_and(|(step, way)| step == name && *way == attempt.way);
        if held {
            self.reached.notify_one();
            self.open.acquire().await.unwrap().forget();
        }
        let fails = self.fails.lock().unwrap().clone().filter(|it| it.step == name && it.way == attempt.way);
        if let Some(Failing { after: false, fault, .. }) = fails {
            return Err(fault);
        }
        if self.twice.load(SeqCst) {
            handler().await?;
        }
        let done = handler().await?;
        fails.map_or(Ok(done), |it| Err(it.fault))
    }
}
