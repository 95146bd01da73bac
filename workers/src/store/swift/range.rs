//! One ranged read, believed only if the answer is about the very bytes that were asked for.

use super::{SwiftStore, cause::Cause, requests::Asked};
use crate::store::content_range::{Fit, fit};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use longshore_schema::fault::{Fault, code};
use std::ops::Range;

/// How a read failed.
pub(super) enum Failed {
    /// Before its body began, after all tries that make sense.
    Said(Fault),
    /// In the middle of the body, for which nobody has tried again yet.
    BrokeOff(Fault),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed::Said(fault)
    }
}

/// Reads `range`, which isn't empty.
pub(super) async fn get(store: &SwiftStore, key: &str, range: Range<u64>) -> Result<Bytes, Failed> {
    let doing = format!("read {key} from {} to {}", range.start, range.end);
    let misbehaved = |why: &str| Fault::permanent(code::STORE_MISBEHAVED, format!("{doing}: {why}"));
    let asked = Asked::new(Method::GET, store.below(key));
    let asked = asked.header("range", format!("bytes={}-{}", range.start, range.end - 1));
    let answer = match store.requests.send(&asked).await {
        Ok(answer) => answer,
        Err(failure) if failure.cause == Cause::Absent => return Err(store.absent(&doing, failure).await.into()),
        Err(failure) => return Err(failure.fault(&doing).into()),
    };
    let partial = answer.status == StatusCode::PARTIAL_CONTENT;
    match answer.header("content-range").filter(|_| partial).map(|it| fit(it, &range)) {
        Some(Fit::Exact) => (),
        Some(Fit::Shorter(total)) => {
            return Err(Fault::permanent(code::OBJECT_MISSING, format!("{doing}: it has {total} bytes")).into());
        }
        Some(Fit::Other) | None => return Err(misbehaved("the store answered with other bytes than it was asked for").into()),
    }
    let length = range.end - range.start;
    if answer.length().is_some_and(|it| it != length) {
        return Err(misbehaved("the store answered with another length than that of the range").into());
    }
    let most = usize::try_from(length).map_err(|_| misbehaved("too much at once"))?;
    let body = answer.body(most).await.map_err(|failure| match failure.cause {
        Cause::Away => Failed::BrokeOff(failure.fault(&doing)),
        _ => Failed::Said(failure.fault(&doing)),
    })?;
    match body.len() == most {
        true => Ok(body),
        false => {
            let why = format!("{doing}: the answer broke off after {} bytes", body.len());
            Err(Failed::BrokeOff(Fault::transient(code::STORE_UNAVAILABLE, why)))
        }
    }
}
