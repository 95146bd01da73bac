//! s3s-fs as the server of `bench data`: a folder for each bucket, a file for each object, and so little processor time of
//! its own that it doesn't hide the tools'. To measure with, and never the server of a test: it never syncs what it
//! writes, and of puts that race with `If-None-Match: *` several may win (`docs/decisions/0012`).

use crate::{
    project::{cargo, run, target},
    services::{
        account::Account,
        ports::Ports,
        probe::Probe,
        s3::S3,
        secret,
        service::{End, Service},
    },
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    io::stderr,
    path::{Path, PathBuf},
    process::Stdio,
};

/// Later ones need a later Rust than this project.
const VERSION: &str = "0.14.1";

/// Starts one in `scratch`, and installs it before if it is missing.
pub fn start(scratch: &Path) -> Result<S3> {
    let installed = installed()?;
    let ports = Ports::reserve(1)?;
    let port = ports.numbers[0];
    let (number, key, secret) = (port.to_string(), secret::password(), secret::password());
    // It takes the key and its secret in no other way: whoever lists processes sees them, for as long as it runs.
    let arguments = ["--host", "127.0.0.1", "--port", &number, "--access-key", &key, "--secret-key", &secret, "data"];
    let service = Service {
        name: "s3s-fs".into(),
        scratch: scratch.into(),
        // A copy, as the other account may have no way into this project's folder.
        program: scratch.join("s3s-fs/s3s-fs"),
        args: arguments.map(String::from).into(),
        env: BTreeMap::new(),
        account: Account::to_drop_to("nobody")?,
        // It takes connections when everything else is ready.
        probe: Probe::Tcp { port },
        end: End::Kill,
        litter: vec![],
    };
    let data = service.make_folder()?.join("data");
    fs::create_dir(&data).with_context(|| format!("make {}", data.display()))?;
    service.account.map_or(Ok(()), |account| account.own(&data))?;
    fs::copy(&installed, &service.program).with_context(|| format!("copy {}", installed.display()))?;
    service.start()?;
    Ok(S3 { service, endpoint: format!("http://127.0.0.1:{port}"), key, secret, metrics: None, ports })
}

/// The program, which is installed if it isn't there.
fn installed() -> Result<PathBuf> {
    let tools = target().join("tools");
    let program = tools.join("bin/s3s-fs");
    let list = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
    if !program.is_file() || !has_our_version(&list) {
        eprintln!("building s3s-fs {VERSION} from crates.io into {}, since it is missing there", tools.display());
        let mut install = cargo();
        install.args(["install", "s3s-fs", "--version", VERSION, "--locked", "--features", "binary", "--root"]).arg(&tools);
        run(install.stdout(Stdio::from(stderr())))?;
    }
    Ok(program)
}

/// What cargo has written down about the programs that it installed.
fn has_our_version(list: &str) -> bool {
    list.contains(&format!("\"s3s-fs {VERSION} "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn another_version_is_not_ours() {
        let list = |version| format!("[v1]\n\"s3s-fs {version} (registry+https://x)\" = [\"s3s-fs\"]\n");
        assert!(super::has_our_version(&list(super::VERSION)));
        assert!(!super::has_our_version(&list("0.14.10")));
        assert!(!super::has_our_version(""));
    }
}
