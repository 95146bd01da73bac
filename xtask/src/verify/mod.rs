//! `cargo xtask verify`: format, lints, docs, house style, licences and dependencies. It changes nothing, and
//! goes on after a failure, to show all of them at once.

pub mod dependencies;
pub mod faults;
pub mod licence;
pub mod links;
pub mod manifests;
pub mod source;
pub mod style;
pub mod tree;

use crate::project::{cargo, root, run};
use anyhow::{Context, Result, bail};
use std::{
    fmt,
    process::{Command, Stdio},
};

/// Something to be put right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// In which file, from the workspace's folder.
    pub path: String,
    /// On which line, from 1, if on one.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub says: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.says),
            None => write!(f, "{}: {}", self.path, self.says),
        }
    }
}

/// One thing that is verified: its name, and how.
type Part = (&'static str, fn() -> Result<()>);

/// Quick ones first.
const PARTS: [Part; 6] = [
    ("format", format),
    ("tidy", tidy),
    ("dependencies", check_dependencies),
    ("cargo deny", deny),
    ("clippy", clippy),
    ("docs", docs),
];

/// Verifies all of it.
pub fn verify() -> Result<()> {
    components()?;
    let mut failed = vec![];
    for (name, part) in PARTS {
        eprintln!("verify: {name}");
        if let Err(e) = part() {
            eprintln!("{e:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("verify failed: {}", failed.join(", "));
    }
    eprintln!("verify: all is well");
    Ok(())
}

/// A minimal installation of Rust lacks them.
fn components() -> Result<()> {
    for component in ["clippy", "rustfmt"] {
        let subcommand = component.trim_start_matches("rust");
        if !succeeds(cargo().args([subcommand, "--version"])) {
            eprintln!("installing Rust's component {component}, since it is missing");
            run(Command::new("rustup").args(["component", "add", component]).current_dir(root()))?;
        }
    }
    Ok(())
}

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn tidy() -> Result<()> {
    let files = tree::files(root())?;
    let mut problems = style::check(&files);
    problems.extend(links::check(&files));
    problems.extend(faults::check(&files, longshore_schema::fault::code::ALL));
    problems.extend(manifests::check(&files)?);
    report(problems)
}

fn check_dependencies() -> Result<()> {
    let policy = std::fs::read_to_string(root().join("deny.toml")).context("read deny.toml")?;
    report(dependencies::check(&policy, &dependencies::packages()?)?)
}

/// It has a database of advisories that `check_dependencies` lacks, and takes minutes to build.
fn deny() -> Result<()> {
    if succeeds(cargo().args(["deny", "--version"])) {
        return run(cargo().args(["deny", "--all-features", "check"]));
    }
    eprintln!("cargo-deny is not installed: no look at security advisories");
    Ok(())
}

/// Everything, and the program as it ships: without features, which only tests have.
fn clippy() -> Result<()> {
    for what in [["--workspace", "--all-targets", "--all-features"].as_slice(), &["--package", "longshore"]] {
        run(cargo().args(["clippy", "--quiet"]).args(what).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn docs() -> Result<()> {
    let flags = "-D warnings";
    run(cargo().args(["doc", "--quiet", "--workspace", "--all-features", "--no-deps"]).env("RUSTDOCFLAGS", flags))
}

fn report(mut problems: Vec<Problem>) -> Result<()> {
    problems.sort();
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    bail!("{}", lines.join("\n"))
}

fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}
