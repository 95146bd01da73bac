//! Where this project lies, and how to call cargo in it.

use crate::child;
use anyhow::{Context, Result, bail};
use std::{
    io::stderr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The workspace's folder.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").or_else(|| std::env::var_os("CARGO_BUILD_TARGET_DIR"));
    root().join(chosen.unwrap_or_else(|| "target".into()))
}

/// The cargo that called us, in the workspace's folder. What it told us about our own package stays here: build
/// scripts (ring's) look at such variables, and half of the libraries would be built again each time that
/// somebody alternates between `cargo xtask` and plain cargo.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| OUR_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
        command.env_remove(name);
    }
    command
}

/// How the names of these variables begin.
const OUR_PACKAGE: [&str; 5] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];

/// Builds one of the workspace's programs.
pub fn build(program: &str) -> Result<PathBuf> {
    // There are no examples: but who asks for them gets libraries with the features that the tests need of them.
    built(program, "--examples")
}

/// Builds one of the workspace's programs, and all tests.
pub fn build_with_tests(program: &str) -> Result<PathBuf> {
    built(program, "--tests")
}

/// Every command builds like this, so that all of them get the same libraries, and nothing is built twice whichever comes
/// first. Only the program that is named: this one runs.
fn built(program: &str, besides: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace", "--all-features", besides, "--bin", program]);
    // Standard output is for results.
    run(command.stdout(Stdio::from(stderr())))?;
    Ok(target().join("debug").join(program))
}

/// Runs a command and fails if it does, with what it was.
pub fn run(command: &mut Command) -> Result<()> {
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let said = format!("{} {}", program_name(command), words.join(" "));
    let status = child::status(command).with_context(|| format!("run {said}"))?;
    if !status.success() {
        bail!("`{said}` failed ({status})");
    }
    Ok(())
}

fn program_name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_file_of_the_containers_is_valid() {
        let text = std::fs::read_to_string(root().join("docker/site.toml")).unwrap();
        longshore_schema::site::Site::parse(&text).unwrap();
    }

    #[test]
    fn there_are_no_examples_that_a_build_would_build_too() {
        let members = std::fs::read_dir(root()).unwrap().map(|member| member.unwrap().path());
        let with_examples: Vec<PathBuf> = members.filter(|member| member.join("examples").exists()).collect();
        assert!(with_examples.is_empty(), "{with_examples:?}");
    }

    #[test]
    fn cargo_is_not_told_about_this_package() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo test sets it");
        let command = cargo();
        assert!(command.get_envs().any(|(name, value)| name == "CARGO_PKG_NAME" && value.is_none()));
    }
}
