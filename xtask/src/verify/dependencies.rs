//! What `deny.toml` says about licences, sources, banned and repeated crates, checked against cargo's own list:
//! the part of `cargo deny` that needs neither its long build nor its database.

use super::{Problem, licence};
use crate::project::cargo;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where Longshore runs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// One crate that is built.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for the workspace's own.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    spec: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Named>,
    #[serde(default)]
    skip: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    spec: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// The crates that are built on Linux with all features. Cargo's metadata knows their licences, but lists
/// crates that no feature turns on; its tree has those that are built.
pub fn packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let metadata = output(&["metadata", "--format-version", "1", "--all-features", "--locked", "--filter-platform", TARGET])?;
    let metadata: Metadata = serde_json::from_slice(&metadata).context("parse cargo's metadata")?;
    let tree = ["tree", "--workspace", "--all-features", "--locked", "--target", TARGET, "--prefix", "none", "--format", "{p}"];
    let tree = String::from_utf8(output(&tree)?)?;
    // NAME vVERSION, and perhaps more in parentheses.
    let built: BTreeSet<(&str, &str)> =
        tree.lines().filter_map(|line| line.split_once(" v")).map(|(name, rest)| (name, first_word(rest))).collect();
    let is_built = |package: &Package| built.contains(&(package.name.as_str(), package.version.as_str()));
    Ok(metadata.packages.into_iter().filter(is_built).collect())
}

fn output(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = cargo().args(arguments).arg("--quiet").output().with_context(|| format!("run cargo {}", arguments[0]))?;
    ensure!(output.status.success(), "cargo {} failed:\n{}", arguments[0], String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

/// What in these packages the policy, the text of `deny.toml`, doesn't accept, and entries of it that nothing needs.
pub fn check(policy: &str, packages: &[Package]) -> Result<Vec<Problem>> {
    let policy: Policy = toml::from_str(policy).context("parse deny.toml")?;
    let mut says: Vec<String> = packages.iter().filter_map(|package| refused(&policy, package)).collect();
    says.extend(repeated(&policy, packages));
    let needed = |spec: &str| packages.iter().any(|package| package.is(spec));
    let repeated = |spec: &str| packages.iter().filter(|package| package.is(spec.split('@').next().unwrap_or(spec))).count() > 1;
    let skips = policy.bans.skip.iter().map(|skip| &skip.spec).filter(|spec| !needed(spec) || !repeated(spec));
    let exceptions = policy.licenses.exceptions.iter().map(|exception| &exception.spec).filter(|spec| !needed(spec));
    says.extend(skips.chain(exceptions).map(|spec| format!("{spec} is in deny.toml, and nothing needs that: take it out")));
    Ok(says.into_iter().map(|says| Problem { path: "Cargo.lock".into(), line: None, says }).collect())
}

fn refused(policy: &Policy, package: &Package) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    let source = package.source.as_deref()?;
    if policy.bans.deny.iter().any(|deny| package.is(&deny.spec)) {
        return Some(format!("{name} is banned in deny.toml"));
    }
    let registry = source.strip_prefix("registry+").unwrap_or_default();
    if !policy.sources.allow_registry.iter().any(|allowed| allowed == registry) {
        return Some(format!("{name} comes from {source}, not from a registry that deny.toml allows"));
    }
    let Some(expression) = &package.license else { return Some(format!("{name} states no licence")) };
    let exceptions = policy.licenses.exceptions.iter().filter(|exception| package.is(&exception.spec));
    let allowed: Vec<&String> = policy.licenses.allow.iter().chain(exceptions.flat_map(|exception| &exception.allow)).collect();
    match licence::is_satisfied(expression, &|licence| allowed.iter().any(|name| *name == licence)) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} has the licence {expression}, which deny.toml doesn't allow")),
        Err(e) => Some(format!("{name}: {e}")),
    }
}

fn repeated(policy: &Policy, packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages.iter().filter(|package| !policy.bans.skip.iter().any(|skip| package.is(&skip.spec))) {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let repeated = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    repeated.map(|(name, versions)| format!("{name} is built in several versions: {}", versions.join(", "))).collect()
}

impl Package {
    /// Whether it is what `NAME` or `NAME@VERSION` means.
    fn is(&self, spec: &str) -> bool {
        spec.split_once('@').map_or(self.name == spec, |(name, version)| self.name == name && self.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT"]
        exceptions = [{ crate = "odd", allow = ["Odd-1.0"] }]
        [bans]
        deny = [{ crate = "banned" }]
        skip = [{ crate = "twice@1.2.0" }]
        [sources]
        allow-registry = ["https://example.org/index"]
    "#;

    fn package(name: &str, version: &str, license: &str) -> Package {
        let source = Some("registry+https://example.org/index".to_string());
        Package { name: name.into(), version: version.into(), license: Some(license.into()), source }
    }

    /// What is wrong besides nothing: the two entries of the policy are in use.
    fn found(more: Package) -> Vec<String> {
        let packages =
            [package("odd", "1.0.0", "Odd-1.0"), package("twice", "1.2.0", "MIT"), package("twice", "2.0.0", "MIT"), more];
        check(POLICY, &packages).unwrap().into_iter().map(|p| p.says).collect()
    }

    #[test]
    fn what_the_policy_allows_passes() {
        assert_eq!(found(package("good", "1.0.0", "MIT OR GPL-3.0")), [""; 0]);
        assert_eq!(found(Package { license: None, source: None, ..package("ours", "1.0.0", "") }), [""; 0]);
    }

    #[test]
    fn each_kind_of_trespass_is_found() {
        assert_eq!(found(package("bad", "1.0.0", "GPL-3.0")).len(), 1);
        assert_eq!(found(package("bad", "1.0.0", "Odd-1.0")).len(), 1, "an exception is for its own crate");
        assert_eq!(found(package("banned", "1.0.0", "MIT")).len(), 1);
        assert_eq!(found(package("twice", "3.0.0", "MIT")).len(), 1);
        assert_eq!(found(Package { license: None, ..package("bad", "1.0.0", "") }).len(), 1);
        assert_eq!(
            found(Package { source: Some("git+https://example.org/bad".into()), ..package("bad", "1.0.0", "MIT") }).len(),
            1
        );
    }

    #[test]
    fn an_entry_that_nothing_needs_is_found() {
        assert_eq!(check(POLICY, &[]).unwrap().len(), 2);
        let only_one = [package("odd", "1.0.0", "Odd-1.0"), package("twice", "1.2.0", "MIT")];
        assert_eq!(check(POLICY, &only_one).unwrap().len(), 1, "a skip of the only version");
    }
}
