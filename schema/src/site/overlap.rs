//! Places that lie in each other. Each place counts its own bytes and removes what it doesn't know below its own
//! folder or prefix, so two that share files would count them twice and remove each other's.

use super::{Pool, Site, Store};

/// Two places of one site that are the same, or of which one lies in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap<'s> {
    /// `store` or `pool`, and the name.
    pub one: (&'static str, &'s str),
    /// The same of the other.
    pub other: (&'static str, &'s str),
    /// Whether hosts of one zone see both. Folders of distinct zones are on distinct hosts, unless all is on one.
    pub near: bool,
}

impl std::fmt::Display for Overlap<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((what, name), (other_what, other)) = (self.one, self.other);
        write!(f, "{what} `{name}` and {other_what} `{other}` are the same place, or one lies in the other: give each its own")
    }
}

struct Located<'s> {
    named: (&'static str, &'s str),
    /// The host's file system, or a service's bucket or container.
    root: String,
    parts: Vec<&'s str>,
    zones: Vec<&'s str>,
}

impl Site {
    /// All pairs of pools and stores that overlap, as their urls say.
    pub fn overlaps(&self) -> Vec<Overlap<'_>> {
        let stores = self.stores.iter().map(|it| located_store(self, it));
        let places: Vec<_> = stores.chain(self.pools.iter().map(located_pool)).collect();
        let mut found = vec![];
        for (n, one) in places.iter().enumerate() {
            for other in places[n + 1..].iter().filter(|other| one.root == other.root && nested(&one.parts, &other.parts)) {
                // A bucket is the same one from everywhere.
                let near = !one.root.is_empty() || one.zones.iter().any(|it| other.zones.contains(it));
                found.push(Overlap { one: one.named, other: other.named, near });
            }
        }
        found
    }
}

fn located_pool(pool: &Pool) -> Located<'_> {
    let (root, parts) = place(&pool.url, "");
    Located { named: ("pool", &pool.name), root, parts, zones: vec![&pool.zone] }
}

fn located_store<'s>(site: &'s Site, store: &'s Store) -> Located<'s> {
    let (root, parts) = place(&store.url, &service(store));
    let near = site.zones.iter().filter(|it| store.zone.as_ref() == Some(&it.name) || store.region.as_ref() == Some(&it.region));
    Located { named: ("store", &store.name), root, parts, zones: near.map(|it| it.name.as_str()).collect() }
}

/// Whose buckets or containers they are. Of a Swift an `endpoint` doesn't count: it may be the usual one, or another way to it.
fn service(store: &Store) -> String {
    match store.swift() {
        Ok(swift) => format!("{} of {}", swift.auth.to_ascii_lowercase(), swift.account()),
        Err(_) => store.endpoint.as_deref().unwrap_or_default().trim_end_matches('/').to_ascii_lowercase(),
    }
}

/// The root that a url is below, empty for files, and its normal parts.
fn place<'s>(url: &'s str, service: &str) -> (String, Vec<&'s str>) {
    let (scheme, path) = url.split_once("://").unwrap_or(("", url));
    let mut parts = normal(path);
    if scheme == "file" || parts.is_empty() {
        return (String::new(), parts);
    }
    let bucket = parts.remove(0);
    (format!("{scheme}://{bucket} at {service}"), parts)
}

/// The parts of a path without those that mean nothing, and with `..` taken back.
fn normal(path: &str) -> Vec<&str> {
    let mut parts = vec![];
    for part in path.split('/').filter(|it| !it.is_empty() && *it != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

fn nested(one: &[&str], other: &[&str]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(pool: &str, store: &str, more: &str) -> String {
        format!(
            "[[zone]]\nname='z1'\nregion='r1'\n[[zone]]\nname='z2'\nregion='r2'\n\
             [[pool]]\nname='p'\nzone='z1'\nhypervisor='kvm'\nurl='{pool}'\ncapacity=1\n\
             [[store]]\nname='s'\nregion='r1'\nurl='{store}'\ncapacity=1\n{more}"
        )
    }

    #[test]
    fn the_same_and_nested_folders_and_prefixes_are_refused_by_both_names() {
        for (pool, store, overlap) in [
            ("file:///srv/a", "file:///srv/b", false),
            ("file:///srv/a", "file:///srv/ab", false),
            ("file:///srv/a", "file:///srv/a", true),
            ("file:///srv/a", "file:///srv/a/", true),
            ("file:///srv/a", "file:///srv//./a", true),
            ("file:///srv/a/b", "file:///srv/a", true),
            ("file:///srv", "file:///srv/a", true),
            ("file:///", "file:///srv/a", true),
            ("file:///srv/a", "s3://srv/a", false),
        ] {
            let parsed = Site::parse(&site(pool, store, ""));
            assert_eq!(parsed.is_err(), overlap, "{pool} {store}: {parsed:?}");
            let both = |message: &str| message.contains("store `s`") && message.contains("pool `p`");
            assert!(parsed.err().is_none_or(|it| both(&it.message)), "{pool} {store}");
        }
        let bucket = |url: &str, endpoint: &str| {
            format!(
                "[[store]]\nname='t'\nregion='r2'\nurl='{url}'\nendpoint='{endpoint}'\ncapacity=1\n[[store]]\nname='u'\nregion='r1'\nurl='s3://b/x'\nendpoint='http://h:1'\ncapacity=1\n"
            )
        };
        for (url, endpoint, overlap) in [
            ("s3://b/x", "http://h:1", true),
            ("s3://b/x/y", "http://H:1/", true),
            ("s3://b", "http://h:1", true),
            ("s3://b/xy", "http://h:1", false),
            ("s3://c/x", "http://h:1", false),
            ("s3://b/x", "http://h:2", false),
        ] {
            let parsed = Site::parse(&site("file:///p", "file:///s", &bucket(url, endpoint)));
            assert_eq!(parsed.is_err(), overlap, "{url} {endpoint}: {parsed:?}");
        }
    }

    #[test]
    fn containers_of_one_account_at_one_auth_service_are_the_same() {
        let container = |name: &str, url: &str, rest: &str| {
            format!("[[store]]\nname='{name}'\nregion='r1'\nurl='{url}'\nkey='env:K'\ncapacity=1\n{rest}\n")
        };
        let first = container("t", "swift://c/x", "auth='http://h:1/auth/v1.0'\nuser='a:u'");
        let keystone = container("v", "swift://c/x", "auth='http://h:1/v3'\nuser='u'\nproject='p'");
        for (url, rest, overlap) in [
            ("swift://c/x", "auth='http://h:1/auth/v1.0'\nuser='a:u'", true),
            ("swift://c", "auth='http://H:1/auth/v1.0/'\nuser='a:other'", true),
            ("swift://c/x/y", "auth='http://h:1/auth/v1.0'\nuser='a:u'\nendpoint='http://h:2'", true),
            ("swift://c/xy", "auth='http://h:1/auth/v1.0'\nuser='a:u'", false),
            ("swift://d/x", "auth='http://h:1/auth/v1.0'\nuser='a:u'", false),
            ("swift://c/x", "auth='http://h:1/auth/v1.0'\nuser='b:u'", false),
            ("swift://c/x", "auth='http://h:2/auth/v1.0'\nuser='a:u'", false),
            ("swift://c/x", "auth='http://h:1/v3'\nuser='other'\nproject='p'", true),
            ("swift://c/x", "auth='http://h:1/v3'\nuser='u'\nproject='q'", false),
            ("swift://c/x", "auth='http://h:1/v3'\nuser='u'\nproject='p'\ndomain='d'", false),
        ] {
            let more = format!("{first}{keystone}{}", container("u", url, rest));
            let parsed = Site::parse(&site("file:///p", "file:///s", &more));
            assert_eq!(parsed.is_err(), overlap, "{url} {rest}: {parsed:?}");
        }
    }

    #[test]
    fn folders_of_the_same_name_in_distinct_zones_are_told_but_not_refused() {
        let far = "[[pool]]\nname='q'\nzone='z2'\nhypervisor='kvm'\nurl='file:///srv/a'\ncapacity=1\n";
        let site = Site::parse(&site("file:///srv/a", "file:///srv/b", far)).unwrap();
        assert_eq!(site.overlaps(), [Overlap { one: ("pool", "p"), other: ("pool", "q"), near: false }]);
    }
}
