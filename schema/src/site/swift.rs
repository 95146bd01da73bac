//! A store in OpenStack's Swift as the site file has it: which container, whose, and who gives tokens for it.

use super::{Store, invalid, is_reference};
use crate::{fault::Fault, text::is_unprintable};

/// The domain of those that name none.
const DOMAIN: &str = "Default";

/// A container, and how to get at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swift<'s> {
    /// The container's name.
    pub container: &'s str,
    /// What all keys in it begin with, without `/` at its end; may be empty.
    pub prefix: &'s str,
    /// The address of who gives tokens, without `/` at its end.
    pub auth: &'s str,
    /// Which protocol is spoken there.
    pub version: Version<'s>,
    /// The user who asks for a token.
    pub user: &'s str,
    /// A reference to the user's key or password.
    pub key: &'s str,
    /// Where Swift is reached, if not where `auth` says: scheme, host and port.
    pub endpoint: Option<&'s str>,
}

/// How a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version<'s> {
    /// User and key in headers, as tempauth and Ceph's gateway have it.
    V1,
    /// Keystone's v3: a password, for a project.
    V3 {
        /// The project whose container it is.
        project: &'s str,
        /// The domain of both project and user.
        domain: &'s str,
    },
}

impl Swift<'_> {
    /// Whose containers they are, as far as the site file shows: with `auth` it is the same for the same ones.
    pub fn account(&self) -> String {
        match self.version {
            Version::V1 => self.user.split(':').next().unwrap_or_default().to_owned(),
            Version::V3 { project, domain } => format!("{project} in {domain}"),
        }
    }
}

impl Store {
    /// What its fields say of a Swift. `site.invalid` if that isn't enough, or if it is something else.
    pub fn swift(&self) -> Result<Swift<'_>, Fault> {
        let wrong = |why: &str| invalid(format!("store `{}`: {why}", self.name));
        let path = self.url.strip_prefix("swift://").ok_or_else(|| wrong("url is swift://container/prefix"))?;
        let (container, prefix) = path.split_once('/').unwrap_or((path, ""));
        if !is_container(container) {
            return Err(wrong("its url does not name a container: use a-z, A-Z, 0-9, ., - and _, at most 256"));
        }
        let Some(auth) = self.auth.as_deref().map(|it| it.trim_end_matches('/')).filter(|it| is_address(it)) else {
            return Err(wrong("give it `auth`, http:// or https:// and where tokens are given, without a password"));
        };
        let version = match (auth.rsplit('/').next(), &self.project) {
            (Some("v1.0" | "v1" | "1.0"), None) if self.domain.is_none() => Version::V1,
            (Some("v1.0" | "v1" | "1.0"), _) => {
                return Err(wrong("`project` and `domain` are for Keystone, whose `auth` ends in /v3"));
            }
            (Some("v3"), Some(project)) => Version::V3 { project, domain: self.domain.as_deref().unwrap_or(DOMAIN) },
            (Some("v3"), None) => return Err(wrong("give it the `project` whose container it is")),
            _ => return Err(wrong("`auth` ends in /v1.0, for tempauth, or in /v3, for Keystone")),
        };
        let Some(user) = self.user.as_deref() else { return Err(wrong("give it the `user` who asks for tokens")) };
        if let Some((field, _)) = texts(self).find(|(_, text)| text.is_empty() || text.chars().any(is_unprintable)) {
            return Err(wrong(&format!("`{field}` is empty, or has what can't be printed")));
        }
        let Some(key) = self.key.as_deref().filter(|it| is_reference(it)) else {
            return Err(wrong("`key` is a reference, `env:NAME` or `file:/PATH`, never the secret itself"));
        };
        if self.credentials.is_some() {
            return Err(wrong("`credentials` are for s3://; a swift:// has `user` and `key`"));
        }
        let endpoint = self.endpoint.as_deref().map(|it| it.trim_end_matches('/'));
        if endpoint.is_some_and(|it| !is_address(it) || it.matches('/').count() != 2) {
            return Err(wrong("`endpoint` of a swift:// is http:// or https://, a host and a port"));
        }
        Ok(Swift { container, prefix: prefix.trim_end_matches('/'), auth, version, user, key, endpoint })
    }
}

/// `site.invalid` if a store that isn't a Swift has what only that has.
pub(super) fn refuse_fields(store: &Store) -> Result<(), Fault> {
    let key = store.key.iter().map(|_| "key");
    match texts(store).map(|(field, _)| field).chain(store.auth.iter().map(|_| "auth")).chain(key).next() {
        None => Ok(()),
        Some(field) => Err(invalid(format!("store `{}`: `{field}` is for swift://", store.name))),
    }
}

/// Names that go into requests as they are.
fn texts(store: &Store) -> impl Iterator<Item = (&'static str, &str)> {
    let fields = [("user", &store.user), ("project", &store.project), ("domain", &store.domain)];
    fields.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)))
}

fn is_container(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !name.starts_with('.')
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|it| {
        !it.is_empty() && !it.starts_with('/') && it.bytes().all(|b| b.is_ascii_graphic()) && !it.contains(['@', '?', '#', '\\'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;

    const SITE: &str = "[[zone]]\nname = \"z1\"\nregion = \"r1\"\n[[store]]\nname = \"s\"\nregion = \"r1\"\ncapacity = 1\n";
    const TEMPAUTH: &str = "url = \"swift://box/pre/fix/\"\nauth = \"http://h:1/auth/v1.0\"\nuser = \"a:u\"\nkey = \"env:K\"\n";
    const KEYSTONE: &str =
        "url = \"swift://box\"\nauth = \"https://h/identity/v3/\"\nuser = \"u\"\nkey = \"file:/k\"\nproject = \"p\"\n";

    fn parsed(fields: &str) -> Result<Store, Fault> {
        Site::parse(&format!("{SITE}{fields}")).map(|mut it| it.stores.remove(0))
    }

    #[test]
    fn tempauth_and_keystone_are_told_apart_by_their_address() {
        let (tempauth, keystone) = (parsed(TEMPAUTH).unwrap(), parsed(KEYSTONE).unwrap());
        let swift = tempauth.swift().unwrap();
        assert_eq!((swift.container, swift.prefix, swift.auth), ("box", "pre/fix", "http://h:1/auth/v1.0"));
        assert_eq!((swift.version, swift.user, swift.key, swift.endpoint), (Version::V1, "a:u", "env:K", None));
        let swift = keystone.swift().unwrap();
        assert_eq!((swift.container, swift.prefix, swift.auth), ("box", "", "https://h/identity/v3"));
        assert_eq!(swift.version, Version::V3 { project: "p", domain: "Default" });
        let elsewhere = parsed(&format!("{KEYSTONE}domain = \"d\"\nendpoint = \"http://swift:8080/\"\n")).unwrap();
        let swift = elsewhere.swift().unwrap();
        assert_eq!(swift.version, Version::V3 { project: "p", domain: "d" });
        assert_eq!(swift.endpoint, Some("http://swift:8080"));
    }

    #[test]
    fn what_a_swift_lacks_or_has_too_much_is_named() {
        for (from, to, said) in [
            ("auth = \"http://h:1/auth/v1.0\"\n", "", "give it `auth`"),
            ("http://h:1/auth/v1.0", "h:1/auth/v1.0", "give it `auth`"),
            ("http://h:1/auth/v1.0", "http://u:secret@h:1/auth/v1.0", "without a password"),
            ("http://h:1/auth/v1.0", "http://h:1/auth/v1.0?x=1", "give it `auth`"),
            ("http://h:1/auth/v1.0", "http://h:1/v2.0", "/v1.0, for tempauth"),
            ("http://h:1/auth/v1.0", "http://h:1/v3", "the `project`"),
            ("user = \"a:u\"\n", "", "the `user`"),
            ("\"a:u\"", "\"\"", "`user` is empty"),
            ("\"a:u\"", "\"a:u\\u0007\"", "`user` is empty, or"),
            ("key = \"env:K\"\n", "", "never the secret"),
            ("env:K", "AKIAEXAMPLE", "never the secret"),
            ("swift://box", "swift://", "does not name a container"),
            ("swift://box", "swift://b x", "does not name a container"),
            ("swift://box", "swift://.box", "does not name a container"),
            ("user =", "project = \"p\"\nuser =", "for Keystone"),
            ("user =", "domain = \"p\"\nuser =", "for Keystone"),
            ("user =", "endpoint = \"http://h:1/v1/AUTH_a\"\nuser =", "`endpoint` of a swift://"),
            ("user =", "endpoint = \"h:1\"\nuser =", "`endpoint` of a swift://"),
            ("user =", "credentials = { access_key = \"env:A\", secret_key = \"env:B\" }\nuser =", "`credentials` are for s3://"),
        ] {
            let fault = parsed(&TEMPAUTH.replace(from, to)).unwrap_err();
            assert!(fault.message.contains(said) && fault.message.contains("store `s`"), "{to}: {fault}");
            assert!(!fault.message.contains("secret@") && !fault.message.contains("AKIA"), "{fault}");
        }
    }

    #[test]
    fn what_only_a_swift_has_is_refused_elsewhere() {
        for field in ["auth", "user", "key", "project", "domain"] {
            for url in ["s3://bucket", "file:///dir"] {
                let fault = parsed(&format!("url = \"{url}\"\n{field} = \"a-secret\"\n")).unwrap_err();
                assert!(fault.message.contains(&format!("`{field}` is for swift://")), "{fault}");
                assert!(!fault.message.contains("a-secret"), "{fault}");
            }
        }
    }
}
