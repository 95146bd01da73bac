//! `verify-object`: reads every byte of an object back and checks it. What it makes is a report.

use super::{About, Operation, field};
use crate::{
    machine, path,
    plan::{EngineStep, LONG, Plan},
    world::{Asked, Touch, World},
};
use longshore_schema::{fault::Fault, ids::OperationId, steps::object};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The command's body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyObject {
    /// The object.
    pub object: OperationId,
    /// Seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
}

impl Operation for VerifyObject {
    const KIND: &'static str = "verify-object";

    fn touches(&self, _: &str) -> Vec<Touch> {
        vec![Touch::Object(self.object)]
    }

    fn about(&self, world: &World) -> About {
        let zone = world.objects.get(&self.object).map(|it| it.zone.clone()).unwrap_or_default();
        About { zone, deadline_s: self.deadline_s, ..About::default() }
    }

    fn plan(&self, world: &World, asked: &Asked, plan: &mut Plan) -> Result<(), Fault> {
        let (object, store) = world.object(self.object, &asked.tenant)?;
        let mut zones = vec![object.zone.as_str()];
        zones.extend(world.places.get(store).map(|it| world.zones_of(&it.place)).unwrap_or_default());
        let route = path::at_store(world, &zones, store)?;
        plan.path = Some(route.choice);
        plan.uses.push(self.object);
        let verify = object::Verify { store: store.to_owned(), object: self.object, root: field(&object.output, "root")? };
        plan.step(&route.queue, verify, (), LONG);
        plan.engine::<()>("publish", EngineStep::Publish);
        Ok(())
    }

    fn output(&self, done: &machine::Operation) -> Value {
        let mut output = json!({"object": self.object});
        if let (Some(Value::Object(verified)), Some(fields)) = (done.output_of(0), output.as_object_mut()) {
            fields.extend(verified.clone());
        }
        output
    }
}
