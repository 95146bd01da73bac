//! The final name of a volume: given once, without replacing anything, and taken away only from what is ours.

use super::{
    directory::{Directory, same},
    export::{Access, Export},
    image::backing_of,
    name,
    scratch::Scratch,
};
use crate::hypervisor::Draft;
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    steps::volume::Identity,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The fault if the final name is taken by what is none of the operation's drafts. Blocks.
pub(super) fn check_free(directory: &Path, draft: &Draft) -> Result<(), Fault> {
    let directory = Directory::open(directory)?;
    let free = directory.identity(&draft.volume)?.is_none() || is_ours(&directory, &draft.volume, draft.operation, None)?;
    free.then_some(()).ok_or_else(|| taken(&draft.volume))
}

/// Links the draft to its final name. Blocks.
pub(super) fn publish(directory: &Path, draft: &Draft) -> Result<Identity, Fault> {
    let directory = Directory::open(directory)?;
    let file = name::draft(draft.operation, draft.attempt);
    let ours = directory.identity(&file)?;
    let ours = ours.ok_or_else(|| Fault::permanent(code::VOLUME_MISSING, format!("the draft {file} isn't there")))?;
    if !directory.link(&file, &draft.volume)? {
        let found = directory.identity(&draft.volume)?;
        if found.is_none_or(|found| !same(&found, &ours)) {
            return Err(taken(&draft.volume));
        }
    }
    directory.sync()?;
    Ok(ours)
}

fn taken(volume: &str) -> Fault {
    Fault::permanent(code::VOLUME_EXISTS, format!("the pool has a volume {volume} already, and it isn't this operation's"))
}

/// Removes all drafts of the operation. Blocks.
pub(super) fn discard(directory: &Path, operation: OperationId) -> Result<(), Fault> {
    let directory = Directory::open(directory)?;
    for file in directory.names()?.iter().filter(|it| name::is_draft_of(operation, it)) {
        directory.unlink(file)?;
    }
    directory.sync()
}

/// Removes the published volume if it is the operation's own and nobody uses it.
pub(super) async fn remove(
    directory: PathBuf,
    volume: &str,
    operation: OperationId,
    identity: Option<Identity>,
) -> Result<(), Fault> {
    let check = {
        let volume = volume.to_owned();
        move |directory: &Directory| is_ours(directory, &volume, operation, identity.as_ref())
    };
    let (path, ours) = {
        let (directory, volume, check) = (directory.clone(), volume.to_owned(), check.clone());
        super::blocking(move || {
            let directory = Directory::open(&directory)?;
            let ours = check(&directory)?;
            if ours {
                check_not_below_another(&directory, &volume)?;
            }
            Ok((directory.path_of(&volume), ours))
        })
        .await?
    };
    if !ours {
        return Ok(());
    }
    // The file alone, whatever is in it, with every lock there is: QEMU refuses while any of its kind has it open,
    // and none can open it until the name is gone.
    let all = json!(["consistent-read", "write", "write-unchanged", "resize"]);
    let file = json!({"driver": "file", "filename": path, "locking": "on"});
    let node = json!({"driver": "blkdebug", "image": file, "take-child-perms": ["write"], "unshare-child-perms": all});
    let held = Export::open(volume, &node, Access::Write, 1, Scratch::new()?).await?;
    let name = volume.to_owned();
    super::blocking(move || {
        let directory = Directory::open(&directory)?;
        if check(&directory)? {
            directory.unlink(&name)?;
            directory.sync()?;
        }
        Ok(())
    })
    .await?;
    held.close().await
}

fn is_ours(directory: &Directory, volume: &str, operation: OperationId, identity: Option<&Identity>) -> Result<bool, Fault> {
    let Some(found) = directory.identity(volume)? else { return Ok(false) };
    if let Some(recorded) = identity {
        return Ok(same(&found, recorded));
    }
    for file in directory.names()?.iter().filter(|it| name::is_draft_of(operation, it)) {
        if directory.identity(file)?.is_some_and(|draft| same(&draft, &found)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `volume.in-use` if another volume of the pool has it as its backing file.
fn check_not_below_another(directory: &Directory, volume: &str) -> Result<(), Fault> {
    for other in directory.names()? {
        if other != volume && backing_of(directory, &other).as_deref() == Some(volume) {
            return Err(Fault::transient(code::VOLUME_IN_USE, format!("{volume} is the backing file of {other}")));
        }
    }
    Ok(())
}
