//! Who gives tokens, and what is asked of them. What is the same for all of them is here: trying again, and which of the
//! addresses that they name is the account's.

mod keystone;
mod tempauth;

use super::{
    cause::{Cause, Failure},
    client::{Answer, Http},
};
use crate::{
    secret::{self, Secret},
    store::retry::{TRIES, pause},
};
use hyper::header::HeaderValue;
use longshore_schema::{
    fault::Fault,
    site::{Swift, Version},
};
use std::time::Duration;

/// From a question to the head of its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// How a token is asked for.
#[derive(Debug)]
pub(super) struct Login {
    /// Where.
    auth: String,
    user: String,
    key: Secret,
    kind: Kind,
    /// Where Swift is reached, if not where they say.
    endpoint: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Tempauth,
    Keystone { project: String, domain: String },
}

/// What a token lets in to.
#[derive(Debug)]
pub(super) struct Granted {
    /// The address of the account, without `/` at its end.
    pub(super) storage: String,
    pub(super) token: HeaderValue,
    /// From the moment when it was asked for.
    pub(super) lasts: Option<Duration>,
}

/// What an answer has of it.
struct Named {
    /// Addresses of the account.
    storage: Vec<String>,
    token: Option<String>,
    lasts: Option<Duration>,
}

impl Login {
    /// Resolves the key on this host.
    pub(super) fn new(swift: &Swift<'_>) -> Result<Login, Fault> {
        let kind = match swift.version {
            Version::V1 => Kind::Tempauth,
            Version::V3 { project, domain } => Kind::Keystone { project: project.to_owned(), domain: domain.to_owned() },
        };
        Ok(Login {
            auth: swift.auth.to_owned(),
            user: swift.user.to_owned(),
            key: secret::resolve(swift.key)?,
            kind,
            endpoint: swift.endpoint.map(str::to_owned),
        })
    }

    /// Asks for a token, again if nobody answers.
    pub(super) async fn ask(&self, http: &Http) -> Result<Granted, Failure> {
        let mut tries = 1;
        loop {
            let named = match &self.kind {
                Kind::Tempauth => tempauth::ask(self, http).await,
                Kind::Keystone { project, domain } => keystone::ask(self, project, domain, http).await,
            };
            let failure = match named.and_then(|it| self.granted(it)) {
                Ok(granted) => return Ok(granted),
                Err(failure) => failure,
            };
            if failure.cause != Cause::Away || tries == TRIES {
                return Err(failure.while_(format!("ask {} for a token", self.auth)));
            }
            pause(tries).await;
            tries += 1;
        }
    }

    fn granted(&self, named: Named) -> Result<Granted, Failure> {
        let token = named.token.and_then(|it| sensitive(&it)).ok_or_else(|| odd("it answered without a token"))?;
        Ok(Granted { storage: self.storage(named.storage)?, token, lasts: named.lasts })
    }

    /// The one address that is meant, at the site's `endpoint` if there is one.
    fn storage(&self, named: Vec<String>) -> Result<String, Failure> {
        let mut found: Vec<String> = vec![];
        for address in named {
            let Some((origin, path)) = split(&address) else {
                return Err(odd("it named an account whose address can't be used"));
            };
            let origin = self.endpoint.as_deref().unwrap_or(origin);
            let address = format!("{origin}{}", path.trim_end_matches('/'));
            if !found.contains(&address) {
                found.push(address);
            }
        }
        let site = |why: &str| Err(Failure::new(Cause::Site, why));
        match found.as_slice() {
            [] => site("it names no public object store for this user and project"),
            [one] if self.auth.starts_with("https://") && !one.starts_with("https://") => {
                site("the store that it names would get the token unencrypted: give it an `endpoint` that begins with https://")
            }
            [one] => Ok(one.clone()),
            _ => site("it names several object stores: give it the `endpoint` of the one that is meant"),
        }
    }
}

/// Scheme, host and port; and the path. `None` of what a token must not be sent to.
fn split(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let plain =
        ["http", "https"].contains(&scheme) && rest.bytes().all(|b| b.is_ascii_graphic()) && !rest.contains(['@', '?', '#']);
    let host = rest.split('/').next().filter(|host| plain && !host.is_empty())?;
    Some(address.split_at(scheme.len() + "://".len() + host.len()))
}

/// A header's value that is never printed.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|it| !it.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

/// What an answer says that isn't a token. That something isn't there means here that nobody of that kind is.
async fn refused(answer: Answer) -> Failure {
    let failure = answer.failure().await;
    match failure.cause {
        Cause::Denied | Cause::Away => failure,
        Cause::Exists
        | Cause::Conflict
        | Cause::Absent
        | Cause::Full
        | Cause::Damaged
        | Cause::Short
        | Cause::Site
        | Cause::Odd => Failure { cause: Cause::Odd, ..failure },
    }
}

fn odd(why: &str) -> Failure {
    Failure::new(Cause::Odd, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(auth: &str, endpoint: Option<&str>, named: &[&str]) -> Result<String, Cause> {
        let login = Login {
            auth: auth.to_owned(),
            user: "a:u".to_owned(),
            key: Secret::new("hunter2"),
            kind: Kind::Tempauth,
            endpoint: endpoint.map(str::to_owned),
        };
        assert!(!format!("{login:?}").contains("hunter2"));
        login.storage(named.iter().map(|it| (*it).to_owned()).collect()).map_err(|it| it.cause)
    }

    #[test]
    fn a_token_goes_only_to_the_one_account_that_is_meant() {
        let one = "http://h:1/v1/AUTH_a";
        for (endpoint, named, wanted) in [
            (None, vec![one], Ok(one)),
            (None, vec!["http://h:1/v1/AUTH_a/", one], Ok(one)),
            (Some("http://other:2"), vec![one], Ok("http://other:2/v1/AUTH_a")),
            (Some("https://other"), vec![one, "http://g:1/v1/AUTH_a"], Ok("https://other/v1/AUTH_a")),
            (None, vec![one, "http://g:1/v1/AUTH_a"], Err(Cause::Site)),
            (None, vec![], Err(Cause::Site)),
            (None, vec!["ftp://h/v1"], Err(Cause::Odd)),
            (None, vec!["http:///v1"], Err(Cause::Odd)),
            (None, vec!["http://evil@h/v1"], Err(Cause::Odd)),
            (None, vec!["http://h/v1?x"], Err(Cause::Odd)),
            (None, vec!["/v1/AUTH_a"], Err(Cause::Odd)),
        ] {
            let found = storage("http://h:1/auth/v1.0", endpoint, &named);
            assert_eq!(found.as_deref().map_err(|it| *it), wanted, "{endpoint:?} {named:?}");
        }
    }

    #[test]
    fn a_token_that_came_encrypted_is_never_sent_in_the_clear() {
        let auth = "https://h/auth/v1.0";
        assert_eq!(storage(auth, None, &["https://h/v1/AUTH_a"]), Ok("https://h/v1/AUTH_a".to_owned()));
        assert_eq!(storage(auth, None, &["http://h/v1/AUTH_a"]), Err(Cause::Site));
        assert_eq!(storage(auth, Some("https://s"), &["http://h/v1/AUTH_a"]), Ok("https://s/v1/AUTH_a".to_owned()));
    }
}
