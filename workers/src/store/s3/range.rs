//! One ranged read, believed only if the answer is about the very bytes that were asked for.

use super::{S3Store, cause::Cause, cause::cause, cause::fault, misbehaved};
use crate::store::content_range::{Fit, fit};
use bytes::{Bytes, BytesMut};
use longshore_schema::fault::{Fault, chain, code};
use std::ops::Range;

/// How a read failed.
pub(super) enum Failed {
    /// Before its body began; the SDK has tried again where that makes sense.
    Said(Fault),
    /// In the middle of the body, which the SDK doesn't repeat.
    BrokeOff(Fault),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed::Said(fault)
    }
}

/// Reads `range`, which isn't empty.
pub(super) async fn get(store: &S3Store, key: &str, range: Range<u64>) -> Result<Bytes, Failed> {
    let doing = || format!("read {key} from {} to {}", range.start, range.end);
    let header = format!("bytes={}-{}", range.start, range.end - 1);
    let request = store.client.get_object().bucket(&store.bucket).key(store.path(key)).range(header);
    let mut answer = request.send().await.map_err(|error| match cause(&error) {
        // A service that doesn't know conditional or ranged requests has no business with 412 here.
        Cause::Exists => fault(doing(), Cause::Odd, &error),
        other => fault(doing(), other, &error),
    })?;
    let whole = match answer.content_range().map(|it| fit(it, &range)) {
        Some(Fit::Exact) => true,
        Some(Fit::Shorter(total)) => {
            return Err(Fault::permanent(code::OBJECT_MISSING, format!("{}: it has {total} bytes", doing())).into());
        }
        Some(Fit::Other) => false,
        // Some answer a range that is the whole object as if none had been asked for.
        None => range.start == 0,
    };
    let length = range.end - range.start;
    if !whole || answer.content_length().is_some_and(|it| u64::try_from(it) != Ok(length)) {
        return Err(misbehaved(format!(
            "{}: the store answered with other bytes ({:?}, {:?} of them)",
            doing(),
            answer.content_range().unwrap_or("no range"),
            answer.content_length().unwrap_or(-1)
        ))
        .into());
    }
    let broke = |why: String| Failed::BrokeOff(Fault::transient(code::STORE_UNAVAILABLE, format!("{}: {why}", doing())));
    let mut body = BytesMut::new();
    body.reserve(usize::try_from(length).map_err(|_| misbehaved(format!("{}: too much at once", doing())))?);
    while let Some(part) = answer.body.next().await {
        let part = part.map_err(|error| broke(format!("the answer broke off: {}", chain(&error))))?;
        if (body.len() + part.len()) as u64 > length {
            return Err(misbehaved(format!("{}: the store sent more than it announced", doing())).into());
        }
        body.extend_from_slice(&part);
    }
    match body.len() as u64 == length {
        true => Ok(body.freeze()),
        false => Err(broke(format!("the answer broke off after {} bytes", body.len()))),
    }
}
