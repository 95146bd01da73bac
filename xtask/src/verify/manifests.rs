//! Dependencies are declared once, in the workspace, without features that nobody asked for, and come from the
//! registry.

use super::{Problem, tree::File};
use anyhow::{Context, Result};
use toml::{Table, Value};

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// What is wrong with the manifests.
pub fn check(files: &[File]) -> Result<Vec<Problem>> {
    let mut found = vec![];
    for file in files.iter().filter(|file| file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml")) {
        let manifest: Table = file.text.parse().with_context(|| format!("parse {}", file.path))?;
        let mut say = |name: &str, says: &str| {
            found.push(Problem { path: file.path.clone(), line: line_of(&file.text, name), says: format!("{name}: {says}") });
        };
        if let Some(workspace) = manifest.get("workspace").and_then(Value::as_table) {
            let members = strings(workspace.get("members"));
            for (name, value) in dependencies(workspace, "dependencies") {
                if let Some(says) = in_workspace(value, &members, reason(&file.text, name)) {
                    say(name, says);
                }
            }
        }
        for (name, value) in KINDS.iter().flat_map(|kind| dependencies(&manifest, kind)) {
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                say(name, "declare it in the workspace's Cargo.toml and write `workspace = true` here");
            }
        }
    }
    Ok(found)
}

/// What is wrong with a dependency of the workspace.
fn in_workspace(value: &Value, members: &[&str], has_reason: bool) -> Option<&'static str> {
    if value.get("git").is_some() {
        return Some("comes from git; take a release from the registry");
    }
    if let Some(path) = value.get("path").and_then(Value::as_str) {
        return (!members.contains(&path)).then_some("its path is not a member of the workspace");
    }
    let trimmed = value.get("default-features").and_then(Value::as_bool) == Some(false);
    (!trimmed && !has_reason).then_some("set `default-features = false`, or say behind it in a comment why not")
}

fn dependencies<'a>(table: &'a Table, kind: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    table.get(kind).and_then(Value::as_table).into_iter().flatten()
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn line_of(text: &str, name: &str) -> Option<usize> {
    let declares = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '=', '.']));
    text.lines().position(declares).map(|at| at + 1)
}

fn reason(text: &str, name: &str) -> bool {
    let line = line_of(text, name).and_then(|number| text.lines().nth(number - 1));
    line.and_then(|line| line.rsplit_once('#')).is_some_and(|(_, comment)| comment.trim().len() > 10 && !comment.contains('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&[File::new(path, text)]).unwrap().iter().map(Problem::to_string).collect()
    }

    fn in_root(line: &str) -> usize {
        found("Cargo.toml", &format!("[workspace]\nmembers = [\"a\"]\n[workspace.dependencies]\n{line}\n")).len()
    }

    #[test]
    fn dependencies_of_the_workspace_ask_for_their_features() {
        assert_eq!(in_root("x = \"1\""), 1);
        assert_eq!(in_root("x = { version = \"1\", features = [\"y\"] }"), 1);
        assert_eq!(in_root("x = { version = \"1\", default-features = false }"), 0);
        assert_eq!(in_root("x = \"1\" # its only default feature is std, and it needs that"), 0);
        assert_eq!(in_root("x = { version = \"1\", features = [\"#not a reason at all\"] }"), 1);
    }

    #[test]
    fn git_and_paths_outside_are_refused() {
        assert_eq!(in_root("a = { path = \"a\" }"), 0);
        assert_eq!(in_root("a = { path = \"../a\" }"), 1);
        assert_eq!(in_root("a = { git = \"https://example.org/a\", default-features = false }"), 1);
    }

    #[test]
    fn members_take_their_dependencies_from_the_workspace() {
        assert!(
            found("a/Cargo.toml", "[dependencies]\nx.workspace = true\ny = { workspace = true, optional = true }\n").is_empty()
        );
        let bad = "[package]\n[dependencies]\nx = \"1\"\n[dev-dependencies]\ny = { path = \"../y\" }\n";
        assert_eq!(found("a/Cargo.toml", bad).len(), 2);
        assert!(found("a/Cargo.toml", bad)[0].starts_with("a/Cargo.toml:3: x:"));
    }
}
