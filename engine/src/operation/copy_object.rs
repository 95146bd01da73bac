//! `copy-object`: makes an object again in another store: a snapshot, or whatever else has a manifest. Once it is Ready it
//! needs nothing of its source, nor of its source's store.

use super::{
    About, Operation, WhenFull,
    base::{Base, taken_over},
    field, with_written,
};
use crate::{
    machine,
    mutant::{self, Mutant},
    path,
    plan::{Amount, Choice, EngineStep, LONG, Need, Plan, READY_BYTES, SHORT, Undo, UndoWhen, Work, call},
    world::{Asked, Object, Seen, Touch, World},
};
use longshore_schema::{
    bound::bound,
    fault::{Fault, code, shown},
    ids::OperationId,
    site::Place,
    steps::object,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The places in the plan of the step that writes the copy, and of the one that commits it.
const TRANSFER: u16 = 1;
const COMMIT: u16 = 2;

/// The command's body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyObject {
    /// The object to copy, in whatever store it is.
    pub from: OperationId,
    /// The store that gets the copy: another one.
    pub store: String,
    /// What may be taken over in that store: `auto`, `full` (nothing), or an operation's id.
    #[serde(default)]
    pub base: Base,
    /// The zone whose workers copy. Without, the nearest to both stores with a worker that reaches both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// A name for people. Without, the object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Wait for space, or fail.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
}

impl CopyObject {
    /// The store that gets the copy, or `store.unknown`.
    fn target<'w>(&self, world: &'w World) -> Result<&'w Seen, Fault> {
        let found = world.places.get(&self.store).filter(|it| matches!(it.place, Place::Store { .. }));
        found.ok_or_else(|| {
            let why = format!("there is no store {:?}; `longshore site show` lists them", shown(&self.store));
            Fault::permanent(code::STORE_UNKNOWN, why)
        })
    }

    /// The copy's zone: the command's, else the object's if the new store is near it, else the first that it is near.
    fn home(&self, world: &World) -> String {
        let near = world.places.get(&self.store).map(|it| world.zones_of(&it.place)).unwrap_or_default();
        let own = world.objects.get(&self.from).map(|it| it.zone.as_str()).filter(|it| near.contains(it));
        self.zone.as_deref().or(own).or(near.first().copied()).unwrap_or_default().to_owned()
    }

    fn name_of(&self, source: Option<&Object>) -> Option<String> {
        self.name.clone().or_else(|| source?.name.clone())
    }

    /// What is booked for it: that of a copy of all that isn't known to be zeros.
    fn bytes(&self, source: &Object, extent_size: u32) -> Result<u64, Fault> {
        let size: u64 = field(&source.output, "virtual_size")?;
        let zeros = source.output["zeros"].as_u64().unwrap_or(0);
        Ok(bound(size, size.saturating_sub(zeros), extent_size).saturating_add(READY_BYTES))
    }

    fn about_copy(&self, world: &World, asked: &Asked, source: &Object, origin: object::Origin) -> object::About {
        let of = source.output["source"].as_str().or(source.subject.as_deref());
        object::About {
            kind: Self::KIND.into(),
            tenant: asked.tenant.clone(),
            zone: self.home(world),
            name: self.name_of(Some(source)),
            source: of.map_or_else(|| self.from.to_string(), str::to_owned),
            created: asked.at,
            copy_of: Some(origin),
        }
    }
}

impl Operation for CopyObject {
    const KIND: &'static str = "copy-object";

    fn touches(&self, tenant: &str) -> Vec<Touch> {
        let mut touches = vec![Touch::Place(self.store.clone()), Touch::Object(self.from)];
        touches.extend(self.zone.clone().map(Touch::Zone));
        let auto = Touch::Kin { object: self.from, store: self.store.clone(), tenant: tenant.to_owned() };
        touches.extend(self.base.touch(auto));
        touches
    }

    fn about(&self, world: &World) -> About {
        let source = world.objects.get(&self.from);
        About {
            zone: self.home(world),
            name: self.name_of(source),
            subject: source.and_then(|it| it.subject.clone()),
            store: Some(self.store.clone()),
            deadline_s: self.deadline_s,
        }
    }

    fn plan(&self, world: &World, asked: &Asked, plan: &mut Plan) -> Result<(), Fault> {
        let target = self.target(world)?;
        self.zone.as_deref().map_or(Ok(()), |zone| world.zone(zone).map(drop))?;
        let (source, from) = world.object(self.from, &asked.tenant)?;
        if from == self.store {
            let why = format!("{} is in store {from} already; name another store", self.from);
            return Err(Fault::permanent(code::STORE_SAME, why));
        }
        let route = path::between_stores(world, self.zone.as_deref(), from, &self.store)?;
        // What is done at the copy alone is for workers near it: its source's may be gone one day.
        let near = path::at_store(world, &world.zones_of(&target.place), &self.store).unwrap_or_else(|_| route.clone());
        let base = self.base.find(world, asked, &self.store, target.extent_size)?;
        let origin = object::Origin {
            object: self.from,
            store: from.to_owned(),
            digest: field(&source.output, "digest")?,
            extent_size: field(&source.output, "extent_size")?,
        };
        let how = match origin.extent_size == target.extent_size {
            true => "frames are passed on as they are, since extents have the same size in both",
            false => "bytes are cut anew, since extents have another size there",
        };
        plan.path = Some(Choice { because: format!("{}; {how}", route.choice.because), ..route.choice });
        plan.uses.extend(base.map(|it| it.id));
        plan.uses.extend((!mutant::is(Mutant::CopyUnheld)).then_some(self.from));
        // Two copies that go opposite ways hold both objects in the same order.
        plan.uses.sort_unstable();

        let (operation, store) = (asked.operation, self.store.clone());
        let bytes = self.bytes(source, target.extent_size)?;
        let amount = Amount::Known { bytes, physical: bytes };
        let need = Need { place: store.clone(), amount, wait: self.when_full == WhenFull::Wait };
        let reserved = plan.engine::<()>("reserve", EngineStep::Reserve(vec![need]));
        let transfer = object::Transfer {
            from: from.to_owned(),
            object: self.from,
            root: field(&source.output, "root")?,
            store: store.clone(),
            operation,
            base: base.map(taken_over).transpose()?,
            about: self.about_copy(world, asked, source, origin),
        };
        let discard = |_| Undo {
            call: call(&near.queue, object::Discard { store: store.clone(), operation }, (), LONG),
            when: UndoWhen::NeverReady,
        };
        let copied = plan.reversible(&route.queue, transfer, (), LONG, discard);
        plan.writes_under(reserved);
        let unlink = |_| Undo {
            call: call(&near.queue, object::Unlink { store: store.clone(), operation }, (), SHORT),
            when: UndoWhen::Always,
        };
        plan.reversible(&near.queue, object::Commit { store: store.clone(), operation }, copied, LONG, unlink);
        plan.commit(call(&near.queue, object::Probe { store: store.clone(), operation }, (), SHORT));
        plan.engine::<()>("publish", EngineStep::Publish);
        Ok(())
    }

    fn output(&self, done: &machine::Operation) -> Value {
        let (copied, committed) = (done.output_of(TRANSFER), done.output_of(COMMIT));
        let args = match done.plan.steps.get(usize::from(TRANSFER)).map(|it| &it.work) {
            Some(Work::Worker(call)) => call.args.clone(),
            Some(Work::Engine(_)) | None => Value::Null,
        };
        let alone = copied.is_none_or(|it| it["without_base"] == true);
        let base = if alone { Value::Null } else { args["base"]["object"].clone() };
        let about = &args["about"];
        let output = json!({
            "store": self.store, "from": self.from, "source": about["source"], "copy_of": about["copy_of"], "base": base,
        });
        with_written(output, copied, committed)
    }
}

#[cfg(test)]
mod tests;
