//! Engine steps: what the engine does itself, inside the transaction that reaches them. Each ends in an event.

mod reserve;
mod settle;
mod sweep;

use super::unit::Unit;
use crate::{
    database::Failed,
    machine::Event,
    operation,
    plan::{self, EngineStep, Work},
};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
};
use serde_json::Value;

const READY_BYTES: i64 = plan::READY_BYTES as i64;

impl Unit<'_> {
    pub(super) async fn perform(&mut self, id: OperationId, seq: u16) -> Result<Event, Failed> {
        let plan = self.operations[&id].operation.plan.clone();
        let Work::Engine(step) = &plan.steps[usize::from(seq)].work else {
            return Err(Failed::Internal(anyhow::anyhow!("step {seq} of {id} is not the engine's")));
        };
        let done = match step {
            EngineStep::Reserve(needs) => return self.reserve(id, seq, needs).await,
            EngineStep::Publish => self.publish(id),
            EngineStep::Choose { store, listed } => self.choose(id, store, *listed).await,
            EngineStep::Forget { store, chosen } => self.forget(id, store, *chosen).await,
        };
        match done {
            Ok(output) => Ok(Event::Performed { seq, output }),
            Err(Failed::Internal(error)) => {
                tracing::error!(operation.id = %id, step.name = plan.steps[usize::from(seq)].name, error = format!("{error:#}"), "an engine step failed");
                Ok(Event::Refused { seq, fault: Fault::permanent(code::INTERNAL, format!("{error:#}")), waits_for: None })
            }
            Err(failed) => Err(failed),
        }
    }

    fn publish(&self, id: OperationId) -> Result<Value, Failed> {
        let loaded = &self.operations[&id];
        let kind = operation::find(&loaded.row.kind).map_err(|fault| Failed::Internal(fault.into()))?;
        Ok(kind.output(&loaded.row.params, &loaded.operation))
    }
}
