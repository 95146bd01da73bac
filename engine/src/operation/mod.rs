//! The operations: one file each with its parameters, what it touches, and its plan. One line in `ALL`.

pub mod backup_snapshot;
pub mod base;
pub mod copy_object;
pub mod create_volume;
#[cfg(feature = "suite")]
pub mod idle;
pub mod sweep_store;
pub mod verify_object;

use crate::{
    machine,
    plan::Plan,
    world::{Asked, Object, Touch, World},
};
use longshore_schema::{
    fault::{Fault, code, shown},
    ids::OperationId,
    site::{Hypervisor, Place},
};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One kind of operation. The struct is the command's body.
pub trait Operation: Serialize + DeserializeOwned + JsonSchema + 'static {
    /// As in commands: `backup-snapshot`.
    const KIND: &'static str;

    /// What has to be read before it can be planned.
    fn touches(&self, tenant: &str) -> Vec<Touch>;

    /// What its row says about it.
    fn about(&self, world: &World) -> About;

    /// The steps. Pure: the same world gives the same plan.
    fn plan(&self, world: &World, asked: &Asked, plan: &mut Plan) -> Result<(), Fault>;

    /// What it made, once all steps are done.
    fn output(&self, done: &machine::Operation) -> Value;
}

/// What the operation's row says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its zone, or region for what has none.
    pub zone: String,
    /// Given by the command.
    pub name: Option<String>,
    /// `pool/volume`.
    pub subject: Option<String>,
    /// The store that has the object.
    pub store: Option<String>,
    /// Seconds from now.
    pub deadline_s: Option<u64>,
}

/// What to do when a place is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// Wait for space, until the deadline.
    #[default]
    Wait,
    /// Fail.
    Refuse,
}

type PlanOf = fn(&Value, &World, &Asked) -> Result<(Plan, About), Fault>;

/// An entry of the registry.
pub struct Kind {
    /// As in commands.
    pub name: &'static str,
    touches: fn(&Value, &str) -> Result<Vec<Touch>, Fault>,
    plan: PlanOf,
    output: fn(&Value, &machine::Operation) -> Value,
    schema: fn() -> Schema,
}

/// All operations, alphabetical. `import-template`, `seed-template`, `staged-file` and `adopt-object` come as lines here.
pub const ALL: &[Kind] = &[
    kind::<backup_snapshot::BackupSnapshot>(),
    kind::<copy_object::CopyObject>(),
    kind::<create_volume::CreateVolume>(),
    kind::<sweep_store::SweepStore>(),
    kind::<verify_object::VerifyObject>(),
];

/// For measurements and tests: no product has them.
#[cfg(feature = "suite")]
const SUITE: &[Kind] = &[kind::<idle::Idle>()];
#[cfg(not(feature = "suite"))]
const SUITE: &[Kind] = &[];

const fn kind<O: Operation>() -> Kind {
    Kind {
        name: O::KIND,
        touches: |params, tenant| Ok(read::<O>(params)?.touches(tenant)),
        plan: |params, world, asked| {
            let operation = read::<O>(params)?;
            let mut plan = Plan::default();
            operation.plan(world, asked, &mut plan)?;
            Ok((plan, operation.about(world)))
        },
        output: |params, done| read::<O>(params).map_or(Value::Null, |it| it.output(done)),
        schema: || schemars::schema_for!(O),
    }
}

fn read<O: Operation>(params: &Value) -> Result<O, Fault> {
    O::deserialize(params).map_err(|error| Fault::permanent(code::COMMAND_MALFORMED, format!("body of {}: {error}", O::KIND)))
}

/// The operation of that kind, or `command.unknown-kind`.
pub fn find(kind: &str) -> Result<&'static Kind, Fault> {
    ALL.iter().chain(SUITE).find(|it| it.name == kind).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|it| it.name).collect();
        Fault::permanent(code::COMMAND_UNKNOWN_KIND, format!("no operation `{kind}`; there are {}", known.join(", ")))
    })
}

impl Kind {
    /// What has to be read before it can be planned. `command.malformed` names what is wrong with the body.
    pub fn touches(&self, params: &Value, tenant: &str) -> Result<Vec<Touch>, Fault> {
        (self.touches)(params, tenant)
    }

    /// The plan, with what the operation's row says.
    pub fn plan(&self, params: &Value, world: &World, asked: &Asked) -> Result<(Plan, About), Fault> {
        (self.plan)(params, world, asked)
    }

    /// What a finished operation made.
    pub fn output(&self, params: &Value, done: &machine::Operation) -> Value {
        (self.output)(params, done)
    }

    /// JSON Schema of the command's body.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A volume's or snapshot's name is a plain file name: no separators, no leading dot, nothing unprintable.
pub fn check_volume_name(name: &str) -> Result<(), Fault> {
    let plain = (1..=200).contains(&name.len()) && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if plain && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let name = shown(name);
    let why = format!("{name:?} is not a volume's name: 1 to 200 bytes, no `/` or `\\`, no leading dot, nothing unprintable");
    Err(Fault::permanent(code::VOLUME_NAME_INVALID, why))
}

impl World {
    /// The zone, or `zone.unknown`.
    pub fn zone(&self, name: &str) -> Result<&crate::world::Zone, Fault> {
        let found = self.zones.get(name);
        found.ok_or_else(|| {
            Fault::permanent(code::ZONE_UNKNOWN, format!("there is no zone {:?}; `longshore site show` lists them", shown(name)))
        })
    }

    /// The hypervisor of a pool in that zone, or `pool.unknown`.
    pub fn pool(&self, name: &str, zone: &str) -> Result<Hypervisor, Fault> {
        match self.places.get(name).map(|it| &it.place) {
            Some(Place::Pool(pool)) if pool.zone == zone => Ok(pool.hypervisor),
            _ => Err(Fault::permanent(
                code::POOL_UNKNOWN,
                format!("zone {} has no pool {:?}; `longshore site show` lists them", shown(zone), shown(name)),
            )),
        }
    }

    /// The extent size of a store that serves that zone, or `store.unknown`.
    pub fn store(&self, name: &str, zone: &str) -> Result<u32, Fault> {
        let known = self.places.get(name).filter(|it| matches!(it.place, Place::Store { .. }));
        let near = known.filter(|it| self.zones_of(&it.place).contains(&zone));
        near.map(|it| it.extent_size).ok_or_else(|| {
            let why = if known.is_some() { "doesn't serve" } else { "doesn't exist, so it can't serve" };
            let (name, zone) = (shown(name), shown(zone));
            Fault::permanent(code::STORE_UNKNOWN, format!("store {name:?} {why} zone {zone}; `longshore site show` lists them"))
        })
    }

    /// A Ready object of that tenant in a store.
    pub fn object(&self, id: OperationId, tenant: &str) -> Result<(&Object, &str), Fault> {
        let found = self.objects.get(&id).filter(|it| it.tenant == tenant);
        let object = found.ok_or_else(|| Fault::permanent(code::OPERATION_UNKNOWN, format!("there is no operation {id}")))?;
        let store = object.store.as_deref().ok_or_else(|| {
            Fault::permanent(
                code::OBJECT_WRONG_KIND,
                format!("{id} is the result of {}, which keeps nothing in a store", object.kind),
            )
        })?;
        match (object.usable, object.state.as_str()) {
            (true, _) => Ok((object, store)),
            (false, "allocated" | "copying") => {
                Err(Fault::transient(code::OBJECT_NOT_READY, format!("{id} is {}", object.state)).retry_after(30))
            }
            (false, state) => Err(Fault::permanent(code::OBJECT_GONE, format!("{id} is {state} or about to be destroyed"))),
        }
    }
}

/// What the steps reported that wrote an object and committed it, in the object's output, but for what only the engine needs.
fn with_written(mut output: Value, copied: Option<&Value>, committed: Option<&Value>) -> Value {
    let inner = ["packs", "unused", "dropped", "sparse", "without_base"];
    if let (Some(Value::Object(copied)), Some(fields)) = (copied, output.as_object_mut()) {
        fields.extend(copied.iter().filter(|(name, _)| !inner.contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())));
        for name in ["root", "read_back"] {
            fields.insert(name.into(), committed.map_or(Value::Null, |it| it[name].clone()));
        }
    }
    output
}

/// A field of an object's output, as the type that it was written from.
pub fn field<T: DeserializeOwned>(output: &Value, name: &str) -> Result<T, Fault> {
    let value = output.get(name).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|error| Fault::permanent(code::INTERNAL, format!("read {name} of the object: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_unique_and_alphabetical() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name), "{ALL:?}");
    }
}
