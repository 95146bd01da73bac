//! Whether an object counts: only its markers say so, whatever else of it is there and in order.

use super::format::{
    Broken, aborted_key,
    ready::{MAX_MARKER, decode_ready},
    ready_key,
};
use crate::store::Store;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::object::Root,
};
use std::sync::Arc;

/// The fault unless `ready` is there and names this root, and `aborted` isn't: `object.missing`, `object.corrupt`.
pub async fn check_counts(store: &Arc<dyn Store>, object: OperationId, root: &Root) -> Result<(), Fault> {
    let (ready, aborted) = (ready_key(object), aborted_key(object));
    let missing = || Fault::permanent(code::OBJECT_MISSING, format!("{ready} isn't there, so the object doesn't count"));
    let entry = store.head(&ready).await?.ok_or_else(missing)?;
    if store.head(&aborted).await?.is_some() {
        return Err(Broken("it is there, so the object doesn't count").at(aborted));
    }
    let bytes = store.get(&ready, 0..entry.bytes.min(MAX_MARKER)).await?;
    let named = decode_ready(&bytes).map_err(|broken| broken.at(&ready))?;
    (named == *root).then_some(()).ok_or_else(|| Broken("it names another root than the one recorded").at(ready))
}
