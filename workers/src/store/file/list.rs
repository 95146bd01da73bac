//! Listing a directory store: a thread walks, the stream takes; who stops listening stops the walk.

use super::beneath::{self, Root, errno_fault, missing_on_the_way};
use crate::store::{Entry, key};
use futures::stream::{self, BoxStream, StreamExt};
use longshore_schema::fault::Fault;
use rustix::{
    fs::{AtFlags, Dir, FileType},
    io::Errno,
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many entries may wait for the listener.
const AHEAD: usize = 1000;

pub(super) fn list(root: Arc<Root>, prefix: String) -> BoxStream<'static, Result<Entry, Fault>> {
    if let Err(fault) = key::check_prefix(&prefix) {
        return stream::iter([Err(fault)]).boxed();
    }
    let start = stream::once(async move {
        let (found, entries) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            if let Err(fault) = root.check_still().and_then(|()| walk(&root, &prefix, &found)) {
                let _ = found.blocking_send(Err(fault));
            }
        });
        stream::unfold(entries, |mut entries| async move { entries.recv().await.map(|it| (it, entries)) })
    });
    start.flatten().boxed()
}

fn walk(root: &Root, prefix: &str, found: &mpsc::Sender<Result<Entry, Fault>>) -> Result<(), Fault> {
    let (start, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let mut directories = vec![start.to_owned()];
    while let Some(path) = directories.pop() {
        let read = || Dir::new(root.directory(&path)?)?.collect::<Result<Vec<_>, _>>();
        let failed = |errno| errno_fault(&format!("list {path:?}"), errno);
        let entries = match read() {
            Err(errno) if missing_on_the_way(errno) => continue,
            entries => entries.map_err(failed)?,
        };
        let directory = match root.directory(&path) {
            Err(errno) if missing_on_the_way(errno) => continue,
            directory => directory.map_err(failed)?,
        };
        for entry in entries {
            let Ok(name) = entry.file_name().to_str() else { continue };
            let key = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if !key::is_key(&key) {
                continue;
            }
            let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(failed)?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if may_hold(&key, prefix) => directories.push(key),
                FileType::RegularFile if key.starts_with(prefix) => {
                    let entry = beneath::entry(key, &stat);
                    let Ok(()) = found.blocking_send(Ok(entry)) else { return Ok(()) };
                }
                _ => (),
            }
        }
    }
    Ok(())
}

/// Whether keys below `directory` may start with `prefix`.
fn may_hold(directory: &str, prefix: &str) -> bool {
    let below = format!("{directory}/");
    below.starts_with(prefix) || prefix.starts_with(&below)
}
