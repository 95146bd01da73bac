//! What a new object may take over from, as commands say it: an object in the same store, with extents of the same size.

use super::field;
use crate::world::{Asked, Object, Touch, World};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::object,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

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

impl Base {
    /// What has to be read for it. `auto`: what finds the object that is the base by itself.
    pub(super) fn touch(&self, auto: Touch) -> Option<Touch> {
        match self {
            Base::Auto => Some(auto),
            Base::Full => None,
            Base::Object(id) => Some(Touch::Base(*id)),
        }
    }

    /// The object to take over from, if there is one. One that is asked for by its id must be in that store, with extents
    /// of that size.
    pub(super) fn find<'w>(
        &self,
        world: &'w World,
        asked: &Asked,
        store: &str,
        extent_size: u32,
    ) -> Result<Option<&'w Object>, Fault> {
        let usable = |it: &&Object| {
            it.usable && it.store.as_deref() == Some(store) && it.output.get("extent_size") == Some(&json!(extent_size))
        };
        match self {
            Base::Full => Ok(None),
            Base::Auto => Ok(world.lineage.as_ref().filter(usable)),
            Base::Object(id) => {
                let (object, _) = world.object(*id, &asked.tenant)?;
                let why =
                    || Fault::permanent(code::OBJECT_WRONG_KIND, format!("{id} is not in store {store} with its extent size"));
                Some(object).filter(usable).ok_or_else(why).map(Some)
            }
        }
    }
}

/// What the step that writes the new object is told of its base.
pub(super) fn taken_over(base: &Object) -> Result<object::Base, Fault> {
    Ok(object::Base { object: base.id, root: field(&base.output, "root")?, sparse: base.sparse.clone() })
}
