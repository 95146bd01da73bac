//! Keystone, version 3: a password is exchanged for a token of one project, whose catalog names the object store.
//! <https://docs.openstack.org/api-ref/identity/v3/#password-authentication-with-scoped-authorization>

use super::{ANSWER, Login, Named, odd, refused};
use crate::store::swift::{
    cause::{Cause, Failure},
    client::Http,
};
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use longshore_schema::fault::chain;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Of an answer, which has the catalog of a whole cloud.
const LONGEST: usize = 4 << 20;

#[derive(Deserialize)]
struct Body {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    issued_at: Option<String>,
    expires_at: Option<String>,
    #[serde(default)]
    catalog: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    interface: String,
    url: String,
}

pub(super) async fn ask(login: &Login, project: &str, domain: &str, http: &Http) -> Result<Named, Failure> {
    let domain = json!({"name": domain});
    let user = json!({"name": login.user, "domain": domain, "password": login.key.expose()});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    let scope = json!({"project": {"name": project, "domain": domain}});
    let body = Bytes::from(json!({"auth": {"identity": identity, "scope": scope}}).to_string());
    let request = Request::post(format!("{}/auth/tokens", login.auth));
    let request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, body.len());
    let request = request.body(Full::new(body)).map_err(|error| Failure::new(Cause::Odd, chain(&error)))?;
    let answer = http.send(request, ANSWER).await?;
    if !answer.status.is_success() {
        return Err(refused(answer).await);
    }
    let token = answer.header("x-subject-token").map(str::to_owned);
    let body = answer.body(LONGEST).await?;
    let body: Body = serde_json::from_slice(&body).map_err(|_| odd("it answered with something unreadable"))?;
    let lasts = lasts(&body.token);
    let stores = body.token.catalog.into_iter().filter(|it| it.kind == "object-store").flat_map(|it| it.endpoints);
    Ok(Named { storage: stores.filter(|it| it.interface == "public").map(|it| it.url).collect(), token, lasts })
}

/// Both times are by Keystone's clock, so ours doesn't matter.
fn lasts(token: &Token) -> Option<Duration> {
    let at = |text: &Option<String>| DateTime::from_str(text.as_deref()?, Format::DateTime).ok()?.to_millis().ok();
    let millis = at(&token.expires_at)?.checked_sub(at(&token.issued_at)?)?;
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_token_lasts_is_the_difference_of_its_times() {
        let token = |issued: Option<&str>, expires: Option<&str>| Token {
            issued_at: issued.map(str::to_owned),
            expires_at: expires.map(str::to_owned),
            catalog: vec![],
        };
        for (issued, expires, wanted) in [
            (Some("2026-11-28T12:53:47.000000Z"), Some("2026-11-28T13:53:47.500000Z"), Some(3_600_500)),
            (Some("2026-11-28T12:53:47.000000Z"), Some("2026-11-28T11:53:47.000000Z"), Some(0)),
            (None, Some("2026-11-28T13:53:47.000000Z"), None),
            (Some("yesterday"), Some("2026-11-28T13:53:47.000000Z"), None),
        ] {
            assert_eq!(lasts(&token(issued, expires)), wanted.map(Duration::from_millis), "{issued:?} {expires:?}");
        }
    }
}
