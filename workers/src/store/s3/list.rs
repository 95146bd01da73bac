//! Listing a bucket page by page, and not for ever when a service's pages go in circles.

use super::{S3Store, cause::cause, cause::fault, misbehaved};
use crate::store::{Entry, key};
use futures::{Stream, TryStreamExt, stream};
use longshore_schema::fault::Fault;

/// Where a listing stands.
enum At {
    Start,
    After(String),
    End,
}

pub(super) fn list(store: &S3Store, prefix: String) -> impl Stream<Item = Result<Entry, Fault>> + Send + '_ {
    let pages = stream::try_unfold(At::Start, move |at| {
        let prefix = prefix.clone();
        async move {
            let token = match at {
                At::Start => key::check_prefix(&prefix).map(|()| None)?,
                At::After(token) => Some(token),
                At::End => return Ok(None),
            };
            page(store, &prefix, token).await.map(Some)
        }
    });
    pages.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten()
}

async fn page(store: &S3Store, prefix: &str, token: Option<String>) -> Result<(Vec<Entry>, At), Fault> {
    let request = store.client.list_objects_v2().bucket(&store.bucket).prefix(store.path(prefix));
    let sent = request.set_continuation_token(token.clone()).send().await;
    let answer = sent.map_err(|error| fault(format!("list {prefix:?}"), cause(&error), &error))?;
    let mut entries = Vec::with_capacity(answer.contents().len());
    for found in answer.contents() {
        let found_key = found.key().unwrap_or("");
        let Some(key) = found_key.strip_prefix(&store.prefix).filter(|it| it.starts_with(prefix)) else {
            return Err(misbehaved(format!("list {prefix:?}: the store answered with key {found_key:?}")));
        };
        if !key::is_key(key) {
            continue;
        }
        let bytes = found.size().and_then(|it| u64::try_from(it).ok());
        let bytes = bytes.ok_or_else(|| misbehaved(format!("list {prefix:?}: the store gave no length of {key:?}")))?;
        let modified_ms = found.last_modified().and_then(|it| it.to_millis().ok()).unwrap_or(0);
        entries.push(Entry { key: key.to_owned(), bytes, modified_ms });
    }
    let next = match (answer.is_truncated().unwrap_or(false), answer.next_continuation_token()) {
        (false, _) => At::End,
        (true, Some(next)) if token.as_deref() != Some(next) => At::After(next.to_owned()),
        (true, _) => return Err(misbehaved(format!("list {prefix:?}: the store says there is more, and not where"))),
    };
    Ok((entries, next))
}
