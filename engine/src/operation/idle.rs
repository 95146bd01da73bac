//! `idle`: four steps of a worker that do nothing. Not a product's operation: it measures what the engine, the
//! broker and the database cost by themselves, and exists only with the feature `suite`.

use super::{About, Operation};
use crate::{
    machine,
    plan::{EngineStep, Plan, SHORT},
    world::{Asked, Touch, World},
};
use longshore_schema::{
    fault::Fault,
    step::Step,
    wire::{WorkerKind, names},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How many steps of a worker one operation has.
pub const STEPS: usize = 4;

/// The command's body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// The zone.
    pub zone: String,
}

/// A step that does nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rest;

impl Step for Rest {
    const NAME: &'static str = "idle.rest";
    type Input = ();
    type Output = ();
}

impl Operation for Idle {
    const KIND: &'static str = "idle";

    fn touches(&self, _: &str) -> Vec<Touch> {
        vec![Touch::Zone(self.zone.clone())]
    }

    fn about(&self, _: &World) -> About {
        About { zone: self.zone.clone(), ..About::default() }
    }

    fn plan(&self, world: &World, _: &Asked, plan: &mut Plan) -> Result<(), Fault> {
        world.zone(&self.zone)?;
        let queue = names::zone_queue(&self.zone, WorkerKind::Kvm.as_str());
        for _ in 0..STEPS {
            plan.step(&queue, Rest, (), SHORT);
        }
        plan.engine::<()>("publish", EngineStep::Publish);
        Ok(())
    }

    fn output(&self, _: &machine::Operation) -> Value {
        json!({})
    }
}
