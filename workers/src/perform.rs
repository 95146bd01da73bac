//! Runs one attempt's handler in a task of its own, under its lease: whatever it does, the worker lives on,
//! and when the lease ends the handler's future is dropped.

use crate::{lease::Lease, steps::Context, worker::Worker};
use longshore_schema::{
    fault::{Class, Fault, code},
    step::StepMessage,
    wire::Outcome,
};
use std::{any::Any, sync::Arc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

/// Faults of a place that may be opened anew.
const AWAY: [&str; 4] = [code::POOL_UNREACHABLE, code::STORE_FOREIGN, code::STORE_MISSING, code::STORE_UNAVAILABLE];

/// Runs the step to its end, or to its lease's. Dropping the future stops it.
pub(crate) async fn perform(worker: &Arc<Worker>, message: StepMessage, lease: &Arc<Lease>) -> Outcome {
    let reach = worker.view.borrow().as_ref().map(|view| view.reach.clone()).unwrap_or_default();
    let context = Context { attempt: message.attempt, lease: lease.clone(), may_write: message.may_write, reach };
    let (runs, lease) = (worker.clone(), lease.clone());
    let handler = async move {
        tokio::select! {
            biased;
            result = runs.handlers.run(&message.step, context, message.args, message.input) => result,
            fault = lease.stopped() => Err(fault),
        }
    };
    let ended = AbortOnDropHandle::new(worker.tasks.spawn(handler.in_current_span())).await;
    match ended {
        Ok(Ok(output)) => {
            tracing::info!("done");
            Outcome::Output(output)
        }
        Ok(Err(fault)) => {
            if AWAY.contains(&fault.code.as_str()) {
                worker.look_again.notify_one();
            }
            match fault.class {
                Class::Cancelled => tracing::info!(%fault, "stopped"),
                Class::Transient | Class::Permanent => tracing::warn!(%fault, "failed"),
            }
            Outcome::Fault(fault)
        }
        Err(ended) => {
            let said = ended.try_into_panic().map_or_else(|_| "the runtime ended it".into(), |panic| text(panic.as_ref()));
            tracing::error!(panic = said, "the step's handler panicked");
            Outcome::Fault(Fault::transient(code::INTERNAL, format!("the step's handler panicked: {said}")))
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").into()
}
