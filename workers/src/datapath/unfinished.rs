//! What puts that didn't end left in a store (see `Store::unfinished`): whose it is, and its removal once its writer's
//! attempt is over.

use super::{
    Work,
    format::{objects_prefix, packs_prefix},
};
use crate::store::Entry;
use longshore_schema::{
    fault::Fault,
    ids::{OperationId, PackId},
    steps::sweep::Unfinished,
};

/// Removes what attempts of the copy before this one left. Nobody finishes it, and it takes room.
pub async fn remove_earlier(work: &Work) -> Result<(), Fault> {
    remove(work, |it| it.attempt.is_some_and(|attempt| attempt < work.attempt)).await
}

/// Removes what the operation left, for a step that comes when nothing of it is being copied any more.
pub async fn remove_all(work: &Work) -> Result<(), Fault> {
    remove(work, |_| true).await
}

async fn remove(work: &Work, chosen: impl Fn(&Unfinished) -> bool) -> Result<(), Fault> {
    for prefix in [packs_prefix(work.operation), objects_prefix(work.operation)] {
        let found = work.store.unfinished(&prefix).await?;
        for left in found.into_iter().filter_map(of).filter(&chosen) {
            work.lease.check()?;
            tracing::info!(operation.id = %work.operation, key = left.key, left.bytes, "removes what was never finished");
            work.store.discard_unfinished(&left.key).await?;
        }
    }
    Ok(())
}

/// Whose it is; `None` if no operation's.
pub fn of(Entry { key, bytes, .. }: Entry) -> Option<Unfinished> {
    let (operation, attempt) = writer(&key)?;
    Some(Unfinished { key, bytes, operation, attempt })
}

fn writer(key: &str) -> Option<(OperationId, Option<u32>)> {
    if let Some(pack) = PackId::of_key(key) {
        return Some((pack.operation, Some(pack.attempt)));
    }
    let (operation, name) = match key.strip_prefix("clock/") {
        Some(operation) => (operation, ""),
        None => key.strip_prefix("objects/")?.split_once('/')?,
    };
    let attempt = name.strip_suffix(".manifest").and_then(|attempt| attempt.parse().ok());
    Some((operation.parse().ok()?, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_writer() {
        let id = OperationId::new();
        for (key, wanted) in [
            (format!("packs/{id}/3-17"), Some((id, Some(3)))),
            (format!("objects/{id}/4.manifest"), Some((id, Some(4)))),
            (format!("objects/{id}/ready"), Some((id, None))),
            (format!("objects/{id}/aborted"), Some((id, None))),
            (format!("clock/{id}"), Some((id, None))),
            ("store.json".into(), None),
            (format!("probe/{id}/x"), None),
            ("packs/x/1-1".into(), None),
        ] {
            assert_eq!(writer(&key), wanted, "{key}");
        }
    }
}
