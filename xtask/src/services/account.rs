//! Which account a service runs under. As root, each service gets the account that Debian's package made for
//! it, never root's: PostgreSQL refuses root, and the others have no need of it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{fs, os::unix::fs::chown, path::Path};

/// A user and its group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The number of its primary group.
    pub gid: u32,
}

impl Account {
    /// The account `name` if we are root; `None` (stay who we are) if not.
    pub fn to_drop_to(name: &str) -> Result<Option<Account>> {
        if !is_root() {
            return Ok(None);
        }
        let text = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let account =
            find(&text, name).with_context(|| format!("no user {name} on this machine, and we don't start services as root"))?;
        Ok(Some(account))
    }

    /// Gives a file or folder to this account.
    pub fn own(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid)).with_context(|| format!("give {} to user {}", path.display(), self.uid))
    }
}

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root2:/bin/sh\npostgresql:x:7:8::/:/bin/sh\npostgres:x:101:104:admin,,,:/var:/bin/sh\n";
        assert_eq!(find(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "post"), None);
    }
}
