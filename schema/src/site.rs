//! The site file: zones, stores, staging areas, pools and users, as `site.toml` has them, and the places
//! that follow from it. Secrets are references (`env:NAME`, `file:PATH`); a literal one is refused.

mod overlap;
mod swift;
mod users;

use crate::fault::{Fault, code, shown};
pub use overlap::Overlap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
pub use swift::{Swift, Version};

/// Which path an operation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum PathPolicy {
    /// Direct where a direct path exists, else staged.
    #[default]
    Auto,
    /// Direct, or refused.
    Direct,
    /// Staged, or refused.
    Staged,
}

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Primary storage of one hypervisor kind.
    Pool,
    /// Secondary storage.
    Store,
    /// Scratch file storage of a zone.
    Staging,
}

impl Role {
    /// As in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Pool => "pool",
            Role::Store => "store",
            Role::Staging => "staging",
        }
    }
}

/// A whole site file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Zones.
    #[serde(default, rename = "zone")]
    pub zones: Vec<Zone>,
    /// Secondary storage.
    #[serde(default, rename = "store")]
    pub stores: Vec<Store>,
    /// Primary storage.
    #[serde(default, rename = "pool")]
    pub pools: Vec<Pool>,
    /// Who may act for whom; without any, everyone is the one tenant `default`.
    #[serde(default, rename = "user")]
    pub users: Vec<User>,
}

/// A failure and locality domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// The region that it belongs to.
    pub region: String,
    /// Which paths its operations may take.
    #[serde(default)]
    pub path: PathPolicy,
}

/// References to the secrets of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// `env:NAME` or `file:PATH`.
    pub access_key: String,
    /// `env:NAME` or `file:PATH`.
    pub secret_key: String,
}

/// Secondary storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// `s3://bucket/prefix`, `swift://container/prefix` or `file:///dir`.
    pub url: String,
    /// S3: where the service listens; without, AWS of `signing_region`. Swift: scheme, host and port, if others than `auth` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// S3: the region in signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_region: Option<String>,
    /// S3: the bucket in the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Swift: who gives tokens: tempauth, if this address ends in `/v1.0`, and Keystone, if in `/v3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Swift: its user; with tempauth, `account:user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Swift: a reference to the user's key or password, `env:NAME` or `file:PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Keystone: the project whose container it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Keystone: the domain of user and project, if not `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The region that it serves; or `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The one zone that it serves; or `region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Bytes of an extent, fixed when the store is created: a power of two from 64 KiB to 4 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent_size: Option<Size>,
    /// Bytes that it may hold.
    pub capacity: Size,
    /// How much may be promised: a multiple of `capacity`.
    #[serde(default = "one")]
    pub overcommit: f64,
    /// The part of `capacity` that may be filled.
    #[serde(default = "store_threshold")]
    pub threshold: f64,
    /// Seconds that a pack without users stays before it is removed, and what a dead operation left behind. More than what
    /// a host that stood still had begun may take to arrive: what keeps that from counting goes with the rest.
    #[serde(default = "grace")]
    pub grace_s: u32,
    /// References to its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// Primary storage of one hypervisor kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Which hypervisor's.
    pub hypervisor: Hypervisor,
    /// `file:///dir`.
    pub url: String,
    /// Bytes that it may hold.
    pub capacity: Size,
    /// How much may be promised: a multiple of `capacity`.
    #[serde(default = "one")]
    pub overcommit: f64,
    /// The part of `capacity` that may be filled.
    #[serde(default = "one")]
    pub threshold: f64,
    /// KVM: whether volumes may lie on other files of the directory. A guest that owns a raw volume can make it
    /// look like a qcow2 that lies on a neighbour's: leave it off where guests bring raw volumes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backing_files: bool,
}

/// Which hypervisor a pool belongs to. One line for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// A directory of qcow2 and raw files.
    Kvm,
}

impl Hypervisor {
    /// As in the site file.
    pub fn as_str(self) -> &'static str {
        match self {
            Hypervisor::Kvm => "kvm",
        }
    }
}

/// A user of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The broker's user.
    pub name: String,
    /// Tenants that it may act for; the first is the default.
    pub tenants: Vec<String>,
}

/// A number of bytes: an integer, or text such as `"10 TiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Size(pub u64);

/// A pool or store with everything that a worker needs to reach it. No secrets, only references.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "a site has some places, not thousands")]
pub enum Place {
    /// Primary storage.
    Pool(Pool),
    /// Secondary storage, with what its `store.json` must say.
    Store {
        /// As in the site file.
        #[serde(flatten)]
        store: Store,
        /// The incarnation of the database that owns it.
        incarnation: uuid::Uuid,
    },
}

fn one() -> f64 {
    1.0
}

fn store_threshold() -> f64 {
    0.95
}

fn grace() -> u32 {
    3600
}

const UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let text = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(unit),
            Err(_) => number.parse::<f64>().ok().filter(|it| (0.0..1e9).contains(it)).map(|it| (it * unit as f64) as u64),
        };
        bytes.map(Size).ok_or_else(|| format!("`{text}` is not a size; write for example 500 GiB"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads a size as a number or as text.
struct Written;

impl serde::de::Visitor<'_> for Written {
    type Value = Size;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size: bytes as a whole number, not negative, or text such as \"500 GiB\"")
    }

    fn visit_u64<E>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
        let negative = || E::invalid_value(serde::de::Unexpected::Signed(bytes), &self);
        u64::try_from(bytes).map(Size).map_err(|_| negative())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

/// Bytes for people: `1.5 GiB`.
impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match UNITS[..4].iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) if self.0.is_multiple_of(*unit) => write!(f, "{} {name}", self.0 / unit),
            Some((name, unit)) => write!(f, "{:.1} {name}", self.0 as f64 / *unit as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// Whether a text may name a zone, host, place or pool: `[a-z0-9][a-z0-9-]{0,62}`, and not `host`.
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && text != "host"
}

impl Site {
    /// Reads a site file and checks all that can be checked without asking anyone. `site.invalid` names the line or the entry.
    pub fn parse(text: &str) -> Result<Site, Fault> {
        let site: Site = toml::from_str(text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        site.check()?;
        Ok(site)
    }

    fn check(&self) -> Result<(), Fault> {
        let mut seen = BTreeMap::new();
        let names = self.zones.iter().map(|it| ("zone", &it.name));
        let names = names.chain(self.stores.iter().map(|it| ("place", &it.name)));
        for (what, name) in names.chain(self.pools.iter().map(|it| ("place", &it.name))) {
            if !is_name(name) {
                return Err(invalid(format!("`{}` is not a name: use a-z, 0-9 and -, at most 63, and not `host`", shown(name))));
            }
            if seen.insert((what, name), ()).is_some() {
                return Err(invalid(format!("{what} `{name}` is there twice")));
            }
        }
        for zone in &self.zones {
            if !is_name(&zone.region) {
                return Err(invalid(format!("zone `{}`: `{}` is not a region's name", zone.name, zone.region)));
            }
        }
        for pool in &self.pools {
            self.check_zone("pool", &pool.name, &pool.zone)?;
            check_numbers("pool", &pool.name, pool.capacity, pool.overcommit, pool.threshold)?;
            check_directory("pool", &pool.name, &pool.url)?;
        }
        for store in &self.stores {
            self.check_store(store)?;
        }
        users::check(&self.users)?;
        self.overlaps().iter().find(|it| it.near).map_or(Ok(()), |it| Err(invalid(it.to_string())))
    }

    fn check_store(&self, store: &Store) -> Result<(), Fault> {
        let name = &store.name;
        match (&store.zone, &store.region) {
            (Some(zone), None) => self.check_zone("store", name, zone)?,
            (None, Some(region)) if self.zones.iter().any(|it| it.region == *region) => (),
            (None, Some(region)) => return Err(invalid(format!("store `{name}`: no zone is in region `{region}`"))),
            _ => return Err(invalid(format!("store `{name}`: give it a `zone` or a `region`, one of them"))),
        }
        check_numbers("store", name, store.capacity, store.overcommit, store.threshold)?;
        if let Some(Size(bytes)) = store.extent_size
            && !(bytes.is_power_of_two() && (64 << 10..=4 << 20).contains(&bytes))
        {
            return Err(invalid(format!("store `{name}`: extent_size is a power of two from 64 KiB to 4 MiB")));
        }
        if let Some(credentials) = &store.credentials {
            for reference in [&credentials.access_key, &credentials.secret_key] {
                if !is_reference(reference) {
                    return Err(invalid(format!(
                        "store `{name}`: credentials are references, `env:NAME` or `file:/PATH`, never the secret itself"
                    )));
                }
            }
        }
        match store.url.split_once("://") {
            Some(("file", _)) => swift::refuse_fields(store).and_then(|()| check_directory("store", name, &store.url)),
            Some(("s3", rest)) if !rest.is_empty() && !rest.starts_with('/') => swift::refuse_fields(store),
            Some(("swift", _)) => store.swift().map(|_| ()),
            _ => Err(invalid(format!("store `{name}`: url is s3://bucket/prefix, swift://container/prefix or file:///dir"))),
        }
    }

    fn check_zone(&self, what: &str, name: &str, zone: &str) -> Result<(), Fault> {
        let known = self.zones.iter().any(|it| it.name == *zone);
        known.then_some(()).ok_or_else(|| invalid(format!("{what} `{name}`: there is no zone `{zone}`")))
    }
}

fn check_numbers(what: &str, name: &str, capacity: Size, overcommit: f64, threshold: f64) -> Result<(), Fault> {
    let ok =
        capacity.0 > 0 && capacity.0 <= 1 << 60 && (1.0..=1000.0).contains(&overcommit) && threshold > 0.0 && threshold <= 1.0;
    ok.then_some(()).ok_or_else(|| {
        invalid(format!(
            "{what} `{name}`: capacity is over 0 and up to 1 EiB, overcommit 1 to 1000, threshold over 0 and up to 1"
        ))
    })
}

fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:/")
}

fn check_directory(what: &str, name: &str, url: &str) -> Result<(), Fault> {
    let path = url.strip_prefix("file://").filter(|it| it.starts_with('/') && !it.split('/').any(|part| part == ".."));
    path.map(|_| ()).ok_or_else(|| invalid(format!("{what} `{name}`: url is file:// and an absolute path without `..`")))
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::permanent(code::SITE_INVALID, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[zone]]
        name = "z1"
        region = "r1"
        [[store]]
        name = "s3-main"
        url = "s3://bucket/prefix"
        endpoint = "http://127.0.0.1:9000"
        region = "r1"
        capacity = "10 TiB"
        credentials = { access_key = "env:S3_KEY", secret_key = "file:/etc/s3" }
        [[pool]]
        name = "fast"
        zone = "z1"
        hypervisor = "kvm"
        url = "file:///srv/volumes"
        capacity = 1099511627776
        [[user]]
        name = "cloud1"
        tenants = ["t1", "t2"]
    "#;

    #[test]
    fn the_example_is_read() {
        let site = Site::parse(GOOD).unwrap();
        assert_eq!(site.stores[0].capacity, Size(10 << 40));
        assert_eq!(site.pools[0].capacity.to_string(), "1 TiB");
    }

    #[test]
    fn the_readmes_example_is_read() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let site = Site::parse(rest.split_once("```").unwrap().0).unwrap();
        assert_eq!((site.zones.len(), site.stores.len(), site.pools.len()), (1, 1, 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, said) in [
            ("env:S3_KEY", "AKIAEXAMPLE", "never the secret"),
            ("zone = \"z1\"", "zone = \"z2\"", "no zone `z2`"),
            ("file:///srv/volumes", "file:///srv/../etc", "without `..`"),
            ("name = \"fast\"", "name = \"Fast\"", "not a name"),
            ("\"10 TiB\"", "\"ten\"", "not a size"),
            ("1099511627776", "-1", "not negative"),
            ("1099511627776", "1.5", "whole number"),
            ("\"10 TiB\"", "\"-1\"", "not a size"),
            ("hypervisor = \"kvm\"", "hypervisor = \"vax\"", "vax"),
            ("url = \"s3://bucket/prefix\"", "url = \"s3://bucket/prefix\"\nproject = \"p\"", "`project` is for swift://"),
            ("s3://bucket/prefix", "ftp://x", "s3://bucket/prefix, swift://"),
            ("[\"t1\", \"t2\"]", "[]", "has no tenants"),
            ("[\"t1\", \"t2\"]", "[\"t1\", \"t1\"]", "a tenant twice"),
            ("\"cloud1\"", "\"local\"", "Longshore's own"),
            ("\"cloud1\"", "\"engine\"", "Longshore's own"),
            ("\"cloud1\"", "\"\"", "not a name"),
            ("\"cloud1\"", "\"cloud\\u202e1\"", "not a name"),
            ("[[user]]", "[[user]]\nname = \"cloud1\"\ntenants = [\"t3\"]\n[[user]]", "there twice"),
        ] {
            let fault = Site::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(fault.code == code::SITE_INVALID && fault.message.contains(said), "{fault}");
        }
    }
}
