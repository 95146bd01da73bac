//! The project's text files.

use anyhow::{Context, Result};
use std::{fs, path::Path};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path from the workspace's folder, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// Never looked into: what others wrote or made.
const SKIPPED: [&str; 2] = [".git", "target"];

/// All of them, by path. Files that aren't UTF-8 aren't text.
pub fn files(root: &Path) -> Result<Vec<File>> {
    let mut found = vec![];
    collect(root, "", &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).with_context(|| format!("read {path}"))?;
            found.extend(String::from_utf8(bytes).ok().map(|text| File { path, text }));
        }
    }
    Ok(())
}

#[cfg(test)]
impl File {
    /// For tests of the checks.
    pub(crate) fn new(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_file_is_found_and_nothing_that_was_built() {
        let files = files(crate::project::root()).unwrap();
        assert!(files.iter().any(|f| f.path == "xtask/src/verify/tree.rs" && f.text.contains("this_file_is_found")));
        assert!(!files.iter().any(|f| f.path.starts_with("target/") || f.path.starts_with(".git/")));
    }
}
