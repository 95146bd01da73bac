//! Links in Markdown that lead to a file of the project, or to a heading in it, lead somewhere.

use super::{Problem, tree::File};
use std::collections::BTreeSet;

/// Links that lead nowhere.
pub fn check(files: &[File]) -> Vec<Problem> {
    let mut found = vec![];
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, link) in links(&file.text) {
            if let Some(says) = broken(files, file, &link) {
                found.push(Problem { path: file.path.clone(), line: Some(line), says });
            }
        }
    }
    found
}

fn broken(files: &[File], from: &File, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target = if path.is_empty() { Some(from.path.clone()) } else { resolve(&from.path, path) };
    let Some(target) = target else { return Some(format!("{link} leads out of the project")) };
    let Some(heading) = heading else {
        let folder = format!("{}/", target.trim_end_matches('/'));
        let exists = target.is_empty() || files.iter().any(|f| f.path == target || f.path.starts_with(&folder));
        return (!exists).then(|| format!("{link} leads to no file"));
    };
    match files.iter().find(|f| f.path == target) {
        None => Some(format!("{link} leads to no file")),
        Some(file) if file.path.ends_with(".md") && !headings(&file.text).contains(heading) => {
            Some(format!("{link} leads to no heading"))
        }
        Some(_) => None,
    }
}

/// `path` as seen from the folder of `from`; `None` above the project's folder.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => (),
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The targets of inline links, with their lines from 1. Code is no link.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    for (number, line) in prose(text) {
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            found.push((number, rest[..end].trim_matches(['<', '>']).to_string()));
        }
    }
    found
}

/// Lines outside of fenced code, with their numbers from 1 and without code in backticks.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = vec![];
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        if fence {
            fenced = !fenced;
        } else if !fenced {
            let outside: Vec<&str> = line.split('`').step_by(2).collect();
            found.push((number + 1, outside.join("`")));
        }
    }
    found
}

/// The headings' names in links, as GitHub forms them: small letters, no punctuation, `-` for a space, and a
/// number for a repetition.
fn headings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let Some(title) = line.strip_prefix('#').filter(|_| !fenced) else { continue };
        let title = title.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let repeated = (1..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(repeated).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_in(text: &str) -> Vec<String> {
        let files = [
            File::new("docs/a.md", text),
            File::new("docs/b.md", "# One `two`, three!\n# Same\n# Same\n"),
            File::new("src/c.rs", ""),
        ];
        check(&files).into_iter().map(|p| p.says).collect()
    }

    #[test]
    fn links_to_files_folders_headings_and_elsewhere_are_fine() {
        let good = "[b](b.md) [b](./b.md#one-two-three) [again](b.md#same-1) [c](../src/c.rs#L3) [s](../src) [s](../src/ \"t\")\n\
                    [w](https://example.org/x) [top](#here) [m](mailto:a@example.org) [root](..)\n# Here\n";
        assert_eq!(broken_in(good), [""; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for bad in
            ["[x](c.md)", "[x](b.md#four)", "[x](#there)", "[x](../../etc/passwd)", "a [x](b.md) and [y](nope/)", "![i](i.png)"]
        {
            assert_eq!(broken_in(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn code_is_no_link() {
        assert_eq!(broken_in("`[x](c.md)` and\n```rust\na[0](c.md)\n# there\n```\n"), [""; 0]);
    }
}
