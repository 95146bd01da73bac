//! Listing a container page by page, and not for ever when its pages go in circles: names come in the order of their bytes.

use super::{SwiftStore, cause::Cause, misbehaved, modified_ms, requests::Asked};
use crate::store::{Entry, key};
use futures::{Stream, TryStreamExt, stream};
use hyper::Method;
use longshore_schema::fault::Fault;
use serde::Deserialize;

/// Names in a page. No Swift is set up to give less.
const PAGE: usize = 1000;
/// Bytes of a page: a name has at most 1024, each of which JSON may write with six.
const LONGEST: usize = 16 << 20;

/// What a page says of an object.
#[derive(Deserialize)]
struct Found {
    name: String,
    bytes: u64,
    last_modified: String,
}

pub(super) fn list(store: &SwiftStore, prefix: String) -> impl Stream<Item = Result<Entry, Fault>> + Send + '_ {
    let pages = stream::try_unfold(Some(String::new()), move |after| {
        let prefix = prefix.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            if after.is_empty() {
                key::check_prefix(&prefix)?;
            }
            page(store, &prefix, after).await.map(Some)
        }
    });
    pages.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten()
}

/// What comes after that name, and the last one of it. A page may have fewer names than it could, so only an empty one is the last.
async fn page(store: &SwiftStore, prefix: &str, after: String) -> Result<(Vec<Entry>, Option<String>), Fault> {
    let doing = format!("list {prefix:?}");
    let begin = format!("{}{prefix}", store.prefix);
    let query = format!("?format=json&limit={PAGE}&prefix={}&marker={}", encoded(&begin), encoded(&after));
    let sent = store.requests.send(&Asked::new(Method::GET, query)).await;
    let answer = sent.map_err(|failure| match failure.cause {
        Cause::Absent => store.no_container(&doing, failure),
        _ => failure.fault(&doing),
    })?;
    let body = answer.body(LONGEST).await.map_err(|failure| failure.fault(&doing))?;
    // Some answer an empty list with nothing at all.
    let page: Vec<Found> = match body.is_empty() {
        true => vec![],
        false => serde_json::from_slice(&body).map_err(|error| misbehaved(format!("{doing}: not a list: {error}")))?,
    };
    let (mut entries, mut last) = (Vec::with_capacity(page.len()), after);
    let is_last = page.is_empty();
    for Found { name, bytes, last_modified } in page {
        let Some(key) = name.strip_prefix(&store.prefix).filter(|it| it.starts_with(prefix)) else {
            return Err(misbehaved(format!("{doing}: the store answered with {name:?}")));
        };
        if name <= last {
            return Err(misbehaved(format!("{doing}: {name:?} comes after {last:?}")));
        }
        if key::is_key(key) {
            let modified_ms = modified_ms(&format!("{}Z", last_modified.trim_end_matches('Z')));
            let modified_ms = modified_ms.ok_or_else(|| misbehaved(format!("{doing}: {key} was written {last_modified:?}")))?;
            entries.push(Entry { key: key.to_owned(), bytes, modified_ms });
        }
        last = name;
    }
    Ok((entries, (!is_last).then_some(last)))
}

/// Fit for a query.
fn encoded(text: &str) -> String {
    let mut query = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(char::from(byte)),
            byte => query.push_str(&format!("%{byte:02X}")),
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_strangers_object_is_called_fits_into_a_query() {
        assert_eq!(encoded("pre/fix/A-z_0.9~"), "pre%2Ffix%2FA-z_0.9~");
        assert_eq!(encoded("a b&c=%ä\n#"), "a%20b%26c%3D%25%C3%A4%0A%23");
    }
}
