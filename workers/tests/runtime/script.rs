//! A step that does what its arguments say, and tells the test how it goes.

use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
    step::{Attempt, Step},
    steps::object::Sealed,
};
use longshore_workers::steps::{Context, Handlers};
use serde::{Deserialize, Serialize};
use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Instant,
};
use tokio::sync::{Mutex, Semaphore, mpsc};

/// What the step does.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// Ends at once.
    End,
    /// Waits until the test lets one go, then ends.
    Wait,
    /// Waits for ever.
    Hang,
    /// Panics.
    Panic,
    /// Seals so many packs, then fails.
    SealAndFail(u32),
}

impl Step for Act {
    const NAME: &'static str = "test.act";
    type Input = ();
    type Output = String;
}

/// Shared by a worker's handlers and the test. It lives as long as the test binary, since handlers are `Copy`.
pub(crate) struct Script {
    begun: mpsc::UnboundedSender<Attempt>,
    heard: Mutex<mpsc::UnboundedReceiver<Attempt>>,
    dropped: mpsc::UnboundedSender<Instant>,
    drops: Mutex<mpsc::UnboundedReceiver<Instant>>,
    pub(crate) go_on: Semaphore,
    running: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) begins: AtomicUsize,
}

/// In a handler's future: says when that ended, in whatever way.
struct InHandler(&'static Script);

impl Drop for InHandler {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        self.0.dropped.send(Instant::now()).unwrap();
    }
}

impl Script {
    pub(crate) fn new() -> &'static Script {
        let (begun, heard) = mpsc::unbounded_channel();
        let (dropped, drops) = mpsc::unbounded_channel();
        Box::leak(Box::new(Script {
            begun,
            heard: heard.into(),
            dropped,
            drops: drops.into(),
            go_on: Semaphore::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            begins: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn handlers(&'static self) -> Handlers {
        Handlers::default().on(move |context, act: Act, ()| self.act(context, act))
    }

    /// Which attempt's handler began next.
    pub(crate) async fn begun(&self) -> Attempt {
        super::engine::soon("a handler to begin", async { self.heard.lock().await.recv().await.unwrap() }).await
    }

    /// When the next handler's future ended.
    pub(crate) async fn ended(&self) -> Instant {
        super::engine::soon("a handler to end", async { self.drops.lock().await.recv().await.unwrap() }).await
    }

    async fn act(&'static self, context: Context, act: Act) -> Result<String, Fault> {
        let _in_handler = InHandler(self);
        self.begins.fetch_add(1, SeqCst);
        self.most.fetch_max(self.running.fetch_add(1, SeqCst) + 1, SeqCst);
        self.begun.send(context.attempt).unwrap();
        context.lease.progress(1, 2);
        match act {
            Act::End => (),
            Act::Wait => self.go_on.acquire().await.unwrap().forget(),
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("on purpose"),
            Act::SealAndFail(packs) => {
                for n in 0..packs {
                    let id = PackId { operation: context.attempt.operation, attempt: context.attempt.n, n };
                    context.lease.sealed(Sealed { id, bytes: 1 << 25 });
                }
                return Err(Fault::transient(code::STORE_UNAVAILABLE, "on purpose"));
            }
        }
        Ok(format!("attempt {}", context.attempt.n))
    }
}
