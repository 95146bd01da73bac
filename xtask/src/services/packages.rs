//! Debian's packages: what is missing gets installed, and said. The services in them are not started by the
//! installation, nor when the machine starts again; we start our own, in a scratch folder.

use super::account::is_root;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A Debian package and how to see that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// `curl`.
    Curl,
    /// `mke2fs`.
    E2fsprogs,
    /// `nbdcopy`.
    LibnbdBin,
    /// Where Swift keeps tokens.
    Memcached,
    /// `openssl`, which makes certificates.
    Openssl,
    /// The database server.
    Postgresql,
    /// Python with virtual environments.
    Python,
    /// `qemu-img` and `qemu-nbd`. Debian 12's lacks `qemu-storage-daemon`.
    QemuUtils,
    /// The broker, with Erlang.
    RabbitmqServer,
    /// `rclone`.
    Rclone,
    /// `restic`.
    Restic,
}

impl Package {
    fn name(self) -> &'static str {
        match self {
            Package::Curl => "curl",
            Package::E2fsprogs => "e2fsprogs",
            Package::LibnbdBin => "libnbd-bin",
            Package::Memcached => "memcached",
            Package::Openssl => "openssl",
            Package::Postgresql => "postgresql",
            Package::Python => "python3-venv",
            Package::QemuUtils => "qemu-utils",
            Package::RabbitmqServer => "rabbitmq-server",
            Package::Rclone => "rclone",
            Package::Restic => "restic",
        }
    }

    /// What Debian starts with the machine once the package is there. Erlang's is left alone if Erlang was there before.
    fn units(self) -> &'static [&'static str] {
        match self {
            Package::Memcached => &["memcached.service"],
            Package::Postgresql => &["postgresql.service"],
            Package::RabbitmqServer if executable("epmd").is_some() => &["rabbitmq-server.service"],
            Package::RabbitmqServer => &["rabbitmq-server.service", "epmd.service", "epmd.socket"],
            Package::Curl | Package::E2fsprogs | Package::LibnbdBin | Package::Openssl | Package::Python => &[],
            Package::QemuUtils | Package::Rclone | Package::Restic => &[],
        }
    }

    fn is_there(self) -> bool {
        match self {
            Package::Curl => executable("curl").is_some(),
            Package::E2fsprogs => executable("mke2fs").is_some(),
            Package::LibnbdBin => executable("nbdcopy").is_some(),
            Package::Memcached => executable("memcached").is_some(),
            Package::Rclone => executable("rclone").is_some(),
            Package::Restic => executable("restic").is_some(),
            Package::Openssl => executable("openssl").is_some(),
            Package::Postgresql => newest("/usr/lib/postgresql", "", "bin/postgres").is_some(),
            Package::Python => super::python::interpreter().is_some(),
            Package::QemuUtils => ["qemu-img", "qemu-nbd"].iter().all(|name| executable(name).is_some()),
            Package::RabbitmqServer => newest("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin/rabbitmq-server").is_some(),
        }
    }
}

/// Installs those that are missing.
pub fn install(packages: &[Package]) -> Result<()> {
    let absent: Vec<Package> = packages.iter().copied().filter(|p| !p.is_there()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = absent.iter().map(|p| p.name()).collect();
    let units: Vec<&str> = absent.iter().flat_map(|p| p.units()).copied().collect();
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    let mut command = match (executable("apt-get"), is_root(), sudo_without_password()) {
        (None, _, _) => bail!("missing: {}; there is no apt-get here, so install them in your system's way", missing.join(", ")),
        (Some(_), true, _) => Command::new("sh"),
        (Some(_), false, true) => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "sh"]);
            sudo
        }
        (Some(_), false, false) => {
            bail!("missing: {}; run this as root, then try again:\n\n{}", missing.join(", "), by_hand(&line, &units))
        }
    };
    eprintln!("installing Debian packages, since they are missing: {}", missing.join(" "));
    if !units.is_empty() {
        eprintln!("what Debian would start with them stays off, now and when the machine starts again: {}", units.join(" "));
    }
    let output = command.arg("-c").arg(script(&line, &units)).stdin(Stdio::null()).output().context("run apt-get")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{line}\nfailed:\n{}", String::from_utf8_lossy(&said));
    }
    let still: Vec<&str> = absent.iter().filter(|p| !p.is_there()).map(|p| p.name()).collect();
    if !still.is_empty() {
        bail!("installed, but what we need from them is not there: {}", still.join(", "));
    }
    Ok(())
}

/// The program `name` in PATH or in the system folders that an ordinary user's PATH lacks.
pub fn executable(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// `PARENT/PREFIX{highest version}/INSIDE` among those that exist.
pub fn newest(parent: &str, prefix: &str, inside: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(parent).ok()?.flatten();
    let versions = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version: Vec<u32> = name.strip_prefix(prefix)?.split('.').map_while(|part| part.parse().ok()).collect();
        let path = entry.path().join(inside);
        (!version.is_empty() && path.exists()).then_some((version, path))
    });
    versions.max().map(|(_, path)| strip_trailing_slash(&path))
}

fn strip_trailing_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

fn sudo_without_password() -> bool {
    let mut command = Command::new("sudo");
    command.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The same for people, for whom no policy-rc.d forbids anything: what Debian has started is stopped again.
fn by_hand(line: &str, units: &[&str]) -> String {
    let off = if units.is_empty() { String::new() } else { format!("    systemctl disable --now {}\n", units.join(" ")) };
    format!("    {line}\n{off}")
}

/// Debian starts a service when its package is installed, unless /usr/sbin/policy-rc.d forbids it: so one that
/// does is there meanwhile. The package lists are fetched only if the first try fails: old or absent lists.
/// Debian also has services start with the machine; `systemctl disable` undoes that, without systemd running too.
fn script(install: &str, units: &[&str]) -> String {
    let off = match units {
        [] => String::new(),
        some => format!("! command -v systemctl >/dev/null || systemctl disable {}\n", some.join(" ")),
    };
    format!(
        "export DEBIAN_FRONTEND=noninteractive\n\
         policy=/usr/sbin/policy-rc.d\n\
         if ! [ -e $policy ]; then\n\
           trap 'rm -f /usr/sbin/policy-rc.d' EXIT\n\
           trap 'exit 130' HUP INT TERM\n\
           printf '#!/bin/sh\\nexit 101\\n' >$policy && chmod 755 $policy\n\
         fi\n\
         {install} || {{ apt-get update && {install}; }} || exit\n\
         {off}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_counts_not_the_last_in_the_alphabet() {
        let parent = std::env::temp_dir().join(format!("xtask-newest-{}", std::process::id()));
        for version in ["server-9.6", "server-15.2", "server-15.10", "server-none", "client-20.1"] {
            fs::create_dir_all(parent.join(version)).unwrap();
        }
        let parent_text = parent.to_str().unwrap();
        assert_eq!(newest(parent_text, "server-", ""), Some(parent.join("server-15.10")));
        assert_eq!(newest(parent_text, "server-", "bin"), None);
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn whoever_installs_by_hand_is_told_to_stop_what_debian_starts() {
        let (install, units) = ("apt-get install -y a b", Package::Postgresql.units());
        assert_eq!(by_hand(install, units), format!("    {install}\n    systemctl disable --now postgresql.service\n"));
        assert_eq!(by_hand(install, Package::Openssl.units()), format!("    {install}\n"));
    }

    #[test]
    fn the_script_is_valid_shell() {
        for units in [&[][..], &["x", "y"]] {
            let checked = Command::new("sh").args(["-n", "-c", &script("apt-get install -y x", units)]).status().unwrap();
            assert!(checked.success());
        }
    }
}
