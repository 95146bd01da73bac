//! `sweep-store`: the engine's own. Removes packs that nobody uses and whose grace is over, and what dead
//! operations left behind. One at a time for each store.

use super::{About, Operation};
use crate::{
    machine, path,
    plan::{EngineStep, LONG, Plan},
    world::{Asked, Touch, World},
};
use longshore_schema::{
    fault::{Fault, code},
    site::Place,
    steps::sweep,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How many packs one sweep looks at, at most.
const LIMIT: u32 = 2000;

/// The command's body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepStore {
    /// The store.
    pub store: String,
}

impl Operation for SweepStore {
    const KIND: &'static str = "sweep-store";

    fn touches(&self, _: &str) -> Vec<Touch> {
        vec![Touch::Place(self.store.clone())]
    }

    fn about(&self, world: &World) -> About {
        let zones = world.places.get(&self.store).map(|it| world.zones_of(&it.place)).unwrap_or_default();
        About { zone: zones.first().map(|it| (*it).to_owned()).unwrap_or_default(), ..About::default() }
    }

    fn plan(&self, world: &World, _: &Asked, plan: &mut Plan) -> Result<(), Fault> {
        let Some(Place::Store { store, .. }) = world.places.get(&self.store).map(|it| &it.place) else {
            return Err(Fault::permanent(code::STORE_UNKNOWN, format!("there is no store {:?}", self.store)));
        };
        let zones = world.zones_of(&world.places[&self.store].place);
        let route = path::at_store(world, &zones, &self.store)?;
        plan.path = Some(route.choice);
        plan.claims.push(format!("sweep:{}", self.store));
        let list = sweep::List { store: self.store.clone(), older_than_s: store.grace_s.into(), limit: LIMIT };
        let listed = plan.look(&route.queue, list, (), LONG);
        let choose = EngineStep::Choose { store: self.store.clone(), listed: listed.seq() };
        let chosen = plan.engine::<sweep::Chosen>("choose", choose);
        plan.step(&route.queue, sweep::Delete { store: self.store.clone() }, chosen, LONG);
        plan.engine::<()>("forget", EngineStep::Forget { store: self.store.clone(), chosen: chosen.seq() });
        plan.engine::<()>("publish", EngineStep::Publish);
        Ok(())
    }

    fn output(&self, done: &machine::Operation) -> Value {
        let count = |name| done.output_of(1).and_then(|it| it[name].as_array()).map_or(0, Vec::len);
        let all = |seq, name: &str| done.output_of(seq).and_then(|it| it[name].as_array()).cloned().unwrap_or_default();
        let removed = all(1, "unfinished");
        let left = all(0, "unfinished").into_iter().filter(|it| !removed.contains(&it["key"]));
        json!({
            "store": self.store, "packs": count("packs"), "objects": count("objects"),
            "unfinished": removed.len(), "unfinished_left": left.filter_map(|it| it["bytes"].as_u64()).sum::<u64>(),
            "foreign": done.output_of(0).map_or(Value::Null, |it| it["foreign"].clone()),
        })
    }
}
