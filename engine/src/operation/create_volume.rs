//! `create-volume`: makes a volume in a pool from a snapshot or a template, in one pass over its manifest.

use super::{About, Operation, WhenFull, check_volume_name, field};
use crate::{
    machine, path,
    plan::{Amount, EngineStep, LONG, Need, Plan, SHORT, Undo, UndoWhen, call},
    world::{Asked, Touch, World},
};
use longshore_schema::{
    fault::{Fault, code, shown},
    ids::OperationId,
    site::PathPolicy,
    steps::volume::{self, Format},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a qcow2 file has besides its data, at most: one part in so many, and a little.
const QCOW2_OVERHEAD: u64 = 2048;

/// The command's body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// The pool's zone.
    pub zone: String,
    /// The snapshot or template to make it from.
    pub from: OperationId,
    /// The pool.
    pub pool: String,
    /// The new volume's name.
    pub volume: String,
    /// Its format, in pools that are directories. Without, the name's suffix says it (`.qcow2`, `.raw`, `.img`), else it
    /// is qcow2. One that contradicts the suffix is refused: a backup would read the volume by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Which path.
    #[serde(default)]
    pub path: PathPolicy,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Wait for space, or fail.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
}

impl CreateVolume {
    fn subject(&self) -> String {
        format!("{}/{}", self.pool, self.volume)
    }

    fn chosen(&self) -> Format {
        self.format.or_else(|| Format::of_name(&self.volume)).unwrap_or_default()
    }

    /// A backup that is told no format believes the name: one that lies would make an object of the file's own bytes.
    fn check_suffix(&self) -> Result<(), Fault> {
        let (Some(given), Some(named)) = (self.format, Format::of_name(&self.volume)) else { return Ok(()) };
        if given == named {
            return Ok(());
        }
        let (name, given, named) = (shown(&self.volume), given.as_str(), named.as_str());
        let why = format!(
            "the name {name:?} says {named} and the command's `format` says {given}: leave `format` out, or choose a name \
             whose suffix says {given} or nothing"
        );
        Err(Fault::permanent(code::VOLUME_NAME_INVALID, why))
    }
}

impl Operation for CreateVolume {
    const KIND: &'static str = "create-volume";

    fn touches(&self, _: &str) -> Vec<Touch> {
        vec![Touch::Zone(self.zone.clone()), Touch::Place(self.pool.clone()), Touch::Object(self.from)]
    }

    fn about(&self, _: &World) -> About {
        About {
            zone: self.zone.clone(),
            name: self.name.clone(),
            subject: Some(self.subject()),
            store: None,
            deadline_s: self.deadline_s,
        }
    }

    fn plan(&self, world: &World, asked: &Asked, plan: &mut Plan) -> Result<(), Fault> {
        check_volume_name(&self.volume)?;
        self.check_suffix()?;
        world.zone(&self.zone)?;
        let hypervisor = world.pool(&self.pool, &self.zone)?;
        let (object, store) = world.object(self.from, &asked.tenant)?;
        let route = path::between(world, Self::KIND, &self.zone, (&self.pool, hypervisor), store, self.path)?;
        let size: u64 = field(&object.output, "virtual_size")?;
        let (operation, pool, name) = (asked.operation, self.pool.clone(), self.volume.clone());
        plan.path = Some(route.choice);
        plan.claims.push(format!("volume:{}", self.subject()));
        plan.uses.push(self.from);

        let bytes = size + size / QCOW2_OVERHEAD + (1 << 20);
        let amount = Amount::Known { bytes, physical: bytes };
        let need = Need { place: pool.clone(), amount, wait: self.when_full == WhenFull::Wait };
        plan.engine::<()>("reserve", EngineStep::Reserve(vec![need]));
        let write = volume::Write {
            store: store.to_owned(),
            object: self.from,
            root: field(&object.output, "root")?,
            pool: pool.clone(),
            volume: name.clone(),
            format: self.chosen(),
            operation,
        };
        let discard = || call(&route.queue, volume::Discard { pool: pool.clone(), operation }, (), SHORT);
        let written = plan.reversible(&route.queue, write, (), LONG, |_| Undo { call: discard(), when: UndoWhen::Always });
        let publish = volume::Publish { pool: pool.clone(), volume: name.clone(), operation };
        let remove = volume::Remove { pool: pool.clone(), volume: name, operation };
        plan.reversible(&route.queue, publish, written, SHORT, |identity| Undo {
            call: call(&route.queue, remove, identity.if_any(), SHORT),
            when: UndoWhen::Always,
        });
        plan.step(&route.queue, volume::Discard { pool: pool.clone(), operation }, (), SHORT);
        plan.engine::<()>("publish", EngineStep::Publish);
        Ok(())
    }

    fn output(&self, done: &machine::Operation) -> Value {
        let (written, identity) = (done.output_of(1), done.output_of(2));
        let mut output = json!({
            "pool": self.pool, "volume": self.volume, "format": self.chosen(), "from": self.from,
            "identity": identity,
        });
        if let (Some(Value::Object(written)), Some(fields)) = (written, output.as_object_mut()) {
            fields.extend(written.clone());
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_is_given_or_what_the_suffix_says_and_never_both_and_different() {
        let (raw, qcow2) = (Some(Format::Raw), Some(Format::Qcow2));
        for (volume, format, wanted) in [
            ("disk", None, qcow2),
            ("disk", raw, raw),
            ("disk", qcow2, qcow2),
            ("disk.v2", None, qcow2),
            ("disk.v2", raw, raw),
            ("disk.raw", None, raw),
            ("disk.IMG", None, raw),
            ("disk.qcow2", None, qcow2),
            ("disk.raw", raw, raw),
            ("disk.qcow2", qcow2, qcow2),
            ("disk.raw", qcow2, None),
            ("disk.img", qcow2, None),
            ("disk.qcow2", raw, None),
        ] {
            let body = json!({"zone": "z1", "from": OperationId::new(), "pool": "p", "volume": volume, "format": format});
            let it: CreateVolume = serde_json::from_value(body).unwrap();
            let checked = it.check_suffix();
            assert_eq!(checked.is_ok().then(|| it.chosen()), wanted, "{volume} {format:?}");
            if let Err(fault) = checked {
                let said = [volume, "raw", "qcow2", "leave `format` out"].iter().all(|part| fault.message.contains(part));
                assert!(fault.code == code::VOLUME_NAME_INVALID && said, "{fault}");
            }
        }
    }
}
