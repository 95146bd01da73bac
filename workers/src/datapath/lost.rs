//! Which packs of a base are lost: gone from the store, or of another length than its root says. Nothing is taken over
//! from them, so that a damage which an older object suffered ends with it. Their bytes aren't read: `verify-object` does that.

use super::{Work, format::packs_prefix};
use futures::StreamExt;
use longshore_schema::{
    fault::Fault,
    ids::{OperationId, PackId},
    steps::object::Sealed,
};
use std::collections::{BTreeMap, HashMap};

/// One listing for each operation that wrote some of the packs: a request for each thousand.
pub async fn lost(work: &Work, packs: &[Sealed]) -> Result<Vec<PackId>, Fault> {
    let mut by_operation = BTreeMap::<OperationId, Vec<&Sealed>>::new();
    for pack in packs {
        by_operation.entry(pack.id.operation).or_default().push(pack);
    }
    let mut lost = vec![];
    for (operation, packs) in by_operation {
        let prefix = packs_prefix(operation);
        let mut there = HashMap::new();
        let mut listed = work.store.list(&prefix);
        while let Some(entry) = listed.next().await {
            work.lease.check()?;
            let entry = entry?;
            there.insert(entry.key, entry.bytes);
        }
        lost.extend(packs.into_iter().filter(|it| there.get(&it.id.key()) != Some(&it.bytes)).map(|it| it.id.clone()));
    }
    Ok(lost)
}
