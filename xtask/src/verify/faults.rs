//! Every fault's code has a page, and every page a code.

use super::{Problem, tree::File};
use std::collections::BTreeSet;

const FOLDER: &str = "docs/faults/";

/// Codes without a page and pages without a code.
pub fn check(files: &[File], codes: &[&str]) -> Vec<Problem> {
    let page = |file: &File| Some(file.path.strip_prefix(FOLDER)?.strip_suffix(".md")?.to_string());
    let pages: BTreeSet<String> = files.iter().filter_map(page).filter(|name| name != "README").collect();
    let codes: BTreeSet<String> = codes.iter().map(|code| code.to_string()).collect();
    let problem = |name: &String, says: &str| Problem { path: format!("{FOLDER}{name}.md"), line: None, says: says.into() };
    let missing = codes.difference(&pages).map(|code| problem(code, "this fault has no page"));
    let stray = pages.difference(&codes).map(|page| problem(page, "no fault has this code"));
    missing.chain(stray).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_stray_pages_are_found() {
        let files = ["docs/faults/store.full.md", "docs/faults/gone.md", "docs/faults/README.md", "docs/other.md"]
            .map(|p| File::new(p, ""));
        let found = check(&files, &["store.full", "volume.missing"]);
        let paths: Vec<&str> = found.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["docs/faults/volume.missing.md", "docs/faults/gone.md"]);
    }
}
