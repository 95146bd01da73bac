//! `backup-snapshot`: copies a volume, or a named snapshot of it, into a store as a complete object of its own.
//! What an earlier object of the same volume has is taken over, not stored again.

use super::{
    About, Operation, WhenFull,
    base::{Base, taken_over},
    check_volume_name, with_written,
};
use crate::{
    machine, path,
    plan::{Amount, EngineStep, LONG, Need, Plan, SHORT, Undo, UndoWhen, call},
    world::{Asked, Touch, World},
};
use longshore_schema::{
    fault::{Fault, code},
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
}

impl Operation for BackupSnapshot {
    const KIND: &'static str = "backup-snapshot";

    fn touches(&self, tenant: &str) -> Vec<Touch> {
        let mut touches = vec![Touch::Zone(self.zone.clone()), Touch::Place(self.pool.clone()), Touch::Place(self.store.clone())];
        let auto = Touch::Lineage { subject: self.subject(), store: self.store.clone(), tenant: tenant.to_owned() };
        touches.extend(self.base.touch(auto));
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
        let base = self.base.find(world, asked, &self.store, extent_size)?;
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
                copy_of: None,
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
        let format = measured.map_or(Value::Null, |it| it["format"].clone());
        let output = json!({"store": self.store, "source": self.subject(), "base": base, "format": format});
        with_written(output, copied, committed)
    }
}
