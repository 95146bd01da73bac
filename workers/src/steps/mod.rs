//! What a worker can do: one handler for each step, in one list.

pub mod object;
pub mod sweep;
pub mod volume;

use crate::{hypervisor::Hypervisor, lease::Lease, store::Store};
use futures::future::BoxFuture;
use longshore_schema::{
    fault::{Fault, code},
    step::{Attempt, Step},
    steps,
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// The places that this worker reaches, opened.
#[derive(Default)]
pub struct Reach {
    /// By the pool's name.
    pub pools: HashMap<String, Arc<dyn Hypervisor>>,
    /// By the store's name.
    pub stores: HashMap<String, OpenStore>,
}

/// A store that was opened and whose `store.json` was read and checked.
#[derive(Clone)]
pub struct OpenStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Bytes of an extent.
    pub extent_size: u32,
    /// Whether it refuses a body that was damaged on its way. What is put into another is read back, all of it, before
    /// the object becomes Ready.
    pub checks_bodies: bool,
}

/// Everything that one attempt of a step may use.
#[derive(Clone)]
pub struct Context {
    /// Which attempt.
    pub attempt: Attempt,
    /// Says how long it may act; carries progress and sealed packs.
    pub lease: Arc<Lease>,
    /// Bytes that the operation may write, all attempts together.
    pub may_write: Option<u64>,
    /// The places.
    pub reach: Arc<Reach>,
}

impl Context {
    /// The pool, or `pool.unreachable`.
    pub fn pool(&self, name: &str) -> Result<Arc<dyn Hypervisor>, Fault> {
        let found = self.reach.pools.get(name).cloned();
        found.ok_or_else(|| Fault::transient(code::POOL_UNREACHABLE, format!("this worker doesn't reach pool {name}")))
    }

    /// The store, or `store.unavailable`.
    pub fn store(&self, name: &str) -> Result<OpenStore, Fault> {
        let found = self.reach.stores.get(name).cloned();
        found.ok_or_else(|| Fault::transient(code::STORE_UNAVAILABLE, format!("this worker doesn't reach store {name}")))
    }
}

type Handler = Box<dyn Fn(Context, Value, Value) -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync>;

/// Handlers by step name.
#[derive(Default)]
pub struct Handlers {
    by_name: HashMap<&'static str, Handler>,
    #[cfg(feature = "suite")]
    between: Option<Arc<dyn Between>>,
}

/// Stands between the runtime and the handlers, for tests: does a step twice, or lets it fail.
#[cfg(feature = "suite")]
#[async_trait::async_trait]
pub trait Between: Send + Sync {
    /// Runs one attempt; `handler` may be called any number of times.
    async fn run(
        &self,
        name: &str,
        attempt: Attempt,
        handler: &(dyn Fn() -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync),
    ) -> Result<Value, Fault>;
}

impl Handlers {
    /// The same with a handler for step `S`. Panics if there is one already: the list is wrong.
    pub fn on<S, F, Running>(mut self, run: F) -> Handlers
    where
        S: Step,
        F: Fn(Context, S, S::Input) -> Running + Send + Sync + Copy + 'static,
        Running: Future<Output = Result<S::Output, Fault>> + Send,
    {
        let handler: Handler = Box::new(move |context, args, input| {
            Box::pin(async move {
                let places = [(code::POOL_FULL, place(&args, "pool")), (code::STORE_FULL, place(&args, "store"))];
                let step = serde_json::from_value::<S>(args).map_err(|error| malformed(S::NAME, &error))?;
                let input = serde_json::from_value::<S::Input>(input).map_err(|error| malformed(S::NAME, &error))?;
                let output =
                    run(context, step, input).await.map_err(|fault| match places.into_iter().find(|it| it.0 == fault.code) {
                        Some((_, place)) => fault.while_(format!("{place} itself is full, whatever is booked there")),
                        None => fault,
                    })?;
                serde_json::to_value(output).map_err(|error| malformed(S::NAME, &error))
            })
        });
        assert!(self.by_name.insert(S::NAME, handler).is_none(), "two handlers for {}", S::NAME);
        self
    }

    /// The same with something between the runtime and the handlers.
    #[cfg(feature = "suite")]
    pub fn between(mut self, between: Arc<dyn Between>) -> Handlers {
        self.between = Some(between);
        self
    }

    /// Runs one attempt to its end. Dropping the future stops it; what it had begun outside has the attempt in its name.
    pub async fn run(&self, name: &str, context: Context, args: Value, input: Value) -> Result<Value, Fault> {
        let Some(handler) = self.by_name.get(name) else {
            return Err(Fault::transient(code::STEP_UNKNOWN, format!("this worker's version doesn't know step {name}")));
        };
        #[cfg(feature = "suite")]
        if let Some(between) = &self.between {
            let attempt = context.attempt;
            return between.run(name, attempt, &|| handler(context.clone(), args.clone(), input.clone())).await;
        }
        handler(context, args, input).await
    }

    /// The names of the steps that have a handler, sorted.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.by_name.keys().copied().collect();
        names.sort_unstable();
        names
    }
}

/// Every step that a worker can do, alphabetical.
pub fn handlers() -> Handlers {
    Handlers::default()
        .on::<steps::object::Commit, _, _>(object::commit)
        .on::<steps::object::Copy, _, _>(object::copy)
        .on::<steps::object::Discard, _, _>(object::discard)
        .on::<steps::object::Probe, _, _>(object::probe)
        .on::<steps::object::Transfer, _, _>(object::transfer)
        .on::<steps::object::Unlink, _, _>(object::unlink)
        .on::<steps::object::Verify, _, _>(object::verify)
        .on::<steps::sweep::Delete, _, _>(sweep::delete)
        .on::<steps::sweep::List, _, _>(sweep::list)
        .on::<steps::volume::Discard, _, _>(volume::discard)
        .on::<steps::volume::Measure, _, _>(volume::measure)
        .on::<steps::volume::Publish, _, _>(volume::publish)
        .on::<steps::volume::Remove, _, _>(volume::remove)
        .on::<steps::volume::Write, _, _>(volume::write)
}

/// A place that a step's arguments name.
fn place(args: &Value, role: &str) -> String {
    format!("{role} {}", args[role].as_str().unwrap_or("?"))
}

fn malformed(step: &str, error: &serde_json::Error) -> Fault {
    Fault::permanent(code::INTERNAL, format!("read the arguments of {step}: {error}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_step_of_the_schema_has_a_handler_and_no_other_has() {
        assert_eq!(super::handlers().names(), longshore_schema::steps::NAMES);
    }
}
