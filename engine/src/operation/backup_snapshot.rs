//! `backup-snapshot`: copies a volume, or a named snapshot of it, into a store as a complete object of its own.
//! What an earlier object of the same volume has is taken over, not stored again.

use super::{About, Operation, WhenFull, check_volume_name, field};
use crate::{
    machine, path,
    plan::{Amount, EngineStep, LONG, Need, Plan, SHORT, Undo, UndoWhen, call},
    world::{Asked, Object, Touch, World},
};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    site::PathPolicy,
    steps::{
        object,
        volume::{self, Format},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The command's body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupSnapshot {
    /// The volume's zone.
    pub zone: String,
    /// The pool that has the volume.
    pub pool: String,
    /// The volume's name in the pool.
    pub volume: String,
    /// A named snapshot inside the volume, or `snapshot.id=N` for one by its id; without, the volume as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The volume's format. Without, its name's suffix declares it (`.qcow2`, `.raw`, `.img`); else it is raw, and
    /// refused if it looks like anything else: a guest could have written that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The store that gets the object.
    pub store: String,
    /// What may be taken over: `auto`, `full` (nothing), or an operation's id.
    #[serde(default)]
    pub base: Base,
    /// Which path.
    #[serde(default)]
    pub path: PathPolicy,
    /// How it is kept.
    #[serde(default)]
    pub layout: Layout,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Wait for space, or fail.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// Ask the guest for a consistent state first. A stopped volume is consistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<bool>,
}

/// What may be taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The latest object of the same volume in the same store.
    #[default]
    Auto,
    /// Nothing.
    Full,
    /// That object.
    #[serde(untagged)]
    Object(OperationId),
}

/// How the object is kept in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Longshore's own format.
    #[default]
    Extents,
    /// A file of the hypervisor's format.
    Vendor,
}

impl BackupSnapshot {
    fn subject(&self) -> String {
        format!("{}/{}", self.pool, self.volume)
    }

    /// The object to take over from, with the reason if there is none.
    fn base<'w>(&self, world: &'w World, asked: &Asked, extent_size: u32) -> Result<Option<&'w Object>, Fault> {
        let usable = |it: &&Object| {
            it.usable && it.store.as_deref() == Some(&*self.store) && it.output.get("extent_size") == Some(&json!(extent_size))
        };
        match &self.base {
            Base::Full => Ok(None),
            Base::Auto => Ok(world.lineage.as_ref().filter(usable)),
            Base::Object(id) => {
                let (object, _) = world.object(*id, &asked.tenant)?;
                let why = || {
                    Fault::permanent(code::OBJECT_WRONG_KIND, format!("{id} is not in store {} with its extent size", self.store))
                };
                Some(object).filter(usable).ok_or_else(why).map(Some)
            }
        }
    }
}

fn taken_over(base: &Object) -> Result<object::Base, Fault> {
    Ok(object::Base { object: base.id, root: field(&base.output, "root")?, sparse: base.sparse.clone() })
}

impl Operation for BackupSnapshot {
    const KIND: &'static str = "backup-snapshot";

    fn touches(&self, tenant: &str) -> Vec<Touch> {
        let mut touches = vec![Touch::Zone(self.zone.clone()), Touch::Place(self.pool.clone()), Touch::Place(self.store.clone())];
        match &self.base {
            Base::Auto => {
                touches.push(Touch::Lineage { subject: self.subject(), store: self.store.clone(), tenant: tenant.to_owned() });
            }
            Base::Full => (),
            Base::Object(id) => touches.push(Touch::Base(*id)),
        }
        touches
    }

    fn about(&self, _: &World) -> About {
        About {
            zone: self.zone.clone(),
            name: self.name.clone(),
            subject: Some(self.subject()),
            store: Some(self.store.clone()),
            deadline_s: self.deadline_s,
        }
    }

    fn plan(&self, world: &World, asked: &Asked, plan: &mut Plan) -> Result<(), Fault> {
        check_volume_name(&self.volume)?;
        self.snapshot.as_deref().map_or(Ok(()), check_volume_name)?;
        if self.layout == Layout::Vendor {
            return Err(Fault::permanent(
                code::PATH_UNAVAILABLE,
                "layout vendor isn't available for this pool; leave `layout` out",
            ));
        }
        world.zone(&self.zone)?;
        let hypervisor = world.pool(&self.pool, &self.zone)?;
        let extent_size = world.store(&self.store, &self.zone)?;
        let route = path::between(world, Self::KIND, &self.zone, (&self.pool, hypervisor), &self.store, self.path)?;
        let base = self.base(world, asked, extent_size)?;
        let (operation, store) = (asked.operation, self.store.clone());
        plan.path = Some(route.choice);
        plan.claims.push(format!("anchor:{}", self.subject()));
        plan.uses.extend(base.map(|it| it.id));

        let measure = volume::Measure {
            pool: self.pool.clone(),
            volume: self.volume.clone(),
            snapshot: self.snapshot.clone(),
            format: self.format,
        };
        let measured = plan.look(&route.queue, measure, (), SHORT);
        let amount = Amount::CopyOf { measured: measured.seq(), extent_size };
        let need = Need { place: store.clone(), amount, wait: self.when_full == WhenFull::Wait };
        let reserved = plan.engine::<()>("reserve", EngineStep::Reserve(vec![need]));
        let copy = object::Copy {
            pool: self.pool.clone(),
            volume: self.volume.clone(),
            snapshot: self.snapshot.clone(),
            store: store.clone(),
            operation,
            base: base.map(taken_over).transpose()?,
            about: object::About {
                kind: Self::KIND.into(),
                tenant: asked.tenant.clone(),
                zone: self.zone.clone(),
                name: self.name.clone(),
                source: self.snapshot.as_ref().map_or(self.subject(), |it| format!("{}@{it}", self.subject())),
                created: asked.at,
            },
        };
        let discard = |_| Undo {
            call: call(&route.queue, object::Discard { store: store.clone(), operation }, (), LONG),
            when: UndoWhen::NeverReady,
        };
        let copied = plan.reversible(&route.queue, copy, measured, LONG, discard);
        plan.writes_under(reserved);
        let unlink = |_| Undo {
            call: call(&route.queue, object::Unlink { store: store.clone(), operation }, (), SHORT),
            when: UndoWhen::Always,
        };
        plan.reversible(&route.queue, object::Commit { store: store.clone(), operation }, copied, LONG, unlink);
        plan.commit(call(&route.queue, object::Probe { store: store.clone(), operation }, (), SHORT));
        plan.engine::<()>("publish", EngineStep::Publish);
        Ok(())
    }

    fn output(&self, done: &machine::Operation) -> Value {
        let (measured, copied, committed) = (done.output_of(0), done.output_of(2), done.output_of(3));
        let alone = copied.is_none_or(|it| it["without_base"] == true);
        let base = done.plan.uses.first().filter(|_| !alone);
        let mut output = json!({"store": self.store, "source": self.subject(), "base": base});
        if let (Some(Value::Object(copied)), Some(fields)) = (copied, output.as_object_mut()) {
            let inner = ["packs", "unused", "dropped", "sparse", "without_base"];
            fields.extend(copied.iter().filter(|(name, _)| !inner.contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())));
            fields.insert("root".into(), committed.map_or(Value::Null, |it| it["root"].clone()));
            fields.insert("read_back".into(), committed.map_or(Value::Null, |it| it["read_back"].clone()));
            fields.insert("format".into(), measured.map_or(Value::Null, |it| it["format"].clone()));
        }
        output
    }
}
