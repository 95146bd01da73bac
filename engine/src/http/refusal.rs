//! Answers that aren't what was asked for: a status and a fault.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use longshore_schema::fault::{Fault, code};
use serde_json::json;

/// A status and `{"fault": …}`.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    fault: Fault,
}

impl Refusal {
    /// 400: the question has no meaning.
    pub(super) fn malformed(why: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, fault: Fault::permanent(code::COMMAND_MALFORMED, why) }
    }

    /// 401: no token, or a wrong one.
    pub(super) fn no_token() -> Refusal {
        let why = "reading needs the header `Authorization: Bearer` with the engine's token";
        Refusal { status: StatusCode::UNAUTHORIZED, fault: Fault::permanent(code::COMMAND_NOT_ALLOWED, why) }
    }

    /// 403: asked under a name that isn't this host's.
    pub(super) fn wrong_host() -> Refusal {
        let why = "this listener answers under `localhost` and loopback addresses only; give it a token to use other names";
        Refusal { status: StatusCode::FORBIDDEN, fault: Fault::permanent(code::COMMAND_NOT_ALLOWED, why) }
    }

    /// 404: it isn't there.
    pub(super) fn not_found(code: &str, what: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::NOT_FOUND, fault: Fault::permanent(code, what) }
    }

    /// 405: this side is for reading.
    pub(super) fn only_reading() -> Refusal {
        let why = "HTTP is for reading, with GET; commands go through the broker";
        Refusal { status: StatusCode::METHOD_NOT_ALLOWED, fault: Fault::permanent(code::COMMAND_MALFORMED, why) }
    }

    /// 503: not now.
    pub(super) fn unavailable(fault: Fault) -> Refusal {
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, fault: fault.retry_after(5) }
    }
}

/// What the reading side can't do is, as far as the reader is concerned, the database's failing; the log says more.
impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Refusal {
        tracing::warn!(error = format!("{error:#}"), "a request could not be answered");
        Refusal::unavailable(Fault::transient(code::INTERNAL, "the database could not be read; the engine's log says why"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"fault": self.fault}))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.fault.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
