//! Swift's own way, which tempauth and Ceph's gateway have: user and key in two headers, account and token in two others.
//! <https://docs.openstack.org/swift/latest/overview_auth.html>

use super::{ANSWER, Login, Named, refused, sensitive};
use crate::store::swift::{
    cause::{Cause, Failure},
    client::Http,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use longshore_schema::fault::chain;
use std::time::Duration;

pub(super) async fn ask(login: &Login, http: &Http) -> Result<Named, Failure> {
    let unfit = || Failure::new(Cause::Denied, "user or key is not what a header can have");
    let user = sensitive(&login.user).ok_or_else(unfit)?;
    let key = sensitive(login.key.expose()).ok_or_else(unfit)?;
    let request = Request::get(login.auth.as_str()).header("x-auth-user", user).header("x-auth-key", key);
    let request = request.body(Full::<Bytes>::default()).map_err(|error| Failure::new(Cause::Odd, chain(&error)))?;
    let answer = http.send(request, ANSWER).await?;
    if !answer.status.is_success() {
        return Err(refused(answer).await);
    }
    let text = |name: &str| answer.header(name).map(str::to_owned);
    Ok(Named {
        storage: text("x-storage-url").into_iter().collect(),
        token: text("x-auth-token"),
        lasts: text("x-auth-token-expires").and_then(|it| it.parse().ok()).map(Duration::from_secs),
    })
}
