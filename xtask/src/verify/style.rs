//! The house style, as far as a program can see it: sizes, names, headers, and what must not be left behind.

use super::{
    Problem,
    source::{self, Line},
    tree::File,
};

/// Lines of code that a file may have, its tests aside.
const LONGEST: usize = 400;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// What must not be in a Rust file, and what to do instead. In pieces, so that this file passes too.
const LEFT_BEHIND: [(&str, &str); 6] = [
    (concat!("#[", "allow("), "use #[expect(…, reason = \"…\")]"),
    (concat!("#![", "allow("), "use #[expect(…, reason = \"…\")] on the item"),
    (concat!("#[", "ignore"), "a test that doesn't run is none"),
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimple", "mented!("), "finish it, or leave it out"),
    (concat!("db", "g!("), "take it out"),
];

/// Words that promise work instead of doing it.
const PROMISES: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

/// Folders of one machine.
const MACHINE: [&str; 2] = [concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// What is wrong with the style of these files.
pub fn check(files: &[File]) -> Vec<Problem> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Problem> {
    let mut found = words(file);
    if file.path.ends_with(".rs") {
        found.extend(header(file));
        found.extend(name(file));
        found.extend(size(file));
        found.extend(left_behind(file));
    }
    found
}

fn problem(file: &File, line: Option<usize>, says: String) -> Problem {
    Problem { path: file.path.clone(), line, says }
}

fn header(file: &File) -> Option<Problem> {
    let missing = !file.text.starts_with("//! ");
    missing.then(|| problem(file, Some(1), "begin with `//!` and what is in the file".into()))
}

fn name(file: &File) -> Option<Problem> {
    let bad = file.path.trim_end_matches(".rs").split('/').find(|part| EMPTY_NAMES.contains(part))?;
    Some(problem(file, None, format!("{bad} says nothing: name it after what is inside")))
}

fn size(file: &File) -> Option<Problem> {
    if is_test(&file.path) {
        return None;
    }
    let code = source::lines(&file.text).into_iter().filter(|line| *line == Line::Code).count();
    (code > LONGEST)
        .then(|| problem(file, None, format!("{code} lines of code, {LONGEST} at the most: split it by what it does")))
}

/// A whole file of tests: of the crate `tests`, or a test module in a file of its own.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn left_behind(file: &File) -> Vec<Problem> {
    let mut found = vec![];
    for (number, line) in file.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for (pattern, advice) in LEFT_BEHIND {
            let starts_word = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if line.match_indices(pattern).any(|(at, _)| starts_word(at)) {
                found.push(problem(file, Some(number + 1), format!("{pattern}: {advice}")));
            }
        }
    }
    found
}

fn words(file: &File) -> Vec<Problem> {
    let mut found = vec![];
    for (number, line) in file.text.lines().enumerate() {
        let has_word = |word: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word);
        found.extend(PROMISES.into_iter().filter(|word| has_word(word)).map(|word| {
            let says = format!("{word}: do it, or write down in an issue that it is to be done");
            problem(file, Some(number + 1), says)
        }));
        // After a letter it is a relative path.
        let absolute = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.}".contains(c));
        let machine = MACHINE.into_iter().filter(|path| line.match_indices(path).any(|(at, _)| absolute(at)));
        found.extend(machine.map(|path| problem(file, Some(number + 1), format!("{path} is a folder of one machine"))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&[File::new(path, text)]).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_good_file_passes() {
        assert!(found("engine/src/ledger.rs", "//! Grants space.\n\nfn grant() {}\n").is_empty());
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(found("a.rs", "// no\n").len(), 1);
        assert_eq!(found("a.rs", "").len(), 1);
        assert!(found("a.md", "no\n").is_empty());
    }

    #[test]
    fn names_that_say_nothing_are_found_as_files_and_as_folders() {
        for path in ["a/utils.rs", "a/common/b.rs", "helpers/src/b.rs", "a/manager/mod.rs"] {
            assert_eq!(found(path, "//! A.\n").len(), 1, "{path}");
        }
        assert!(found("a/common_prefix.rs", "//! A.\n").is_empty());
    }

    #[test]
    fn only_code_counts_for_the_size() {
        let code = |n: usize| "x();\n".repeat(n);
        assert!(found("a.rs", &format!("//! A.\n\n{}", code(400))).is_empty());
        assert_eq!(found("a.rs", &format!("//! A.\n\n{}", code(401))).len(), 1);
        assert!(
            found("a.rs", &format!("//! A.\n{}\n#[cfg(test)]\nmod tests {{\n{}}}\n", code(400), "    x();\n".repeat(99)))
                .is_empty()
        );
        for tests in ["tests/tests/a.rs", "engine/src/site/tests.rs", "engine/src/site/tests/b.rs"] {
            assert!(found(tests, &format!("//! A.\n\n{}", code(999))).is_empty(), "{tests}");
        }
    }

    #[test]
    fn what_must_not_be_left_behind_is_found_in_code_and_not_in_comments() {
        for (pattern, _) in LEFT_BEHIND {
            assert_eq!(found("a.rs", &format!("//! A.\n    {pattern}\n")).len(), 1, "{pattern}");
            assert!(found("a.rs", &format!("//! A.\n// {pattern}\n")).is_empty(), "{pattern}");
        }
        assert!(found("a.rs", &format!("//! A.\nmy_{}x);\n", concat!("to", "do!("))).is_empty());
    }

    #[test]
    fn promises_are_found_in_every_file_as_whole_words() {
        for word in PROMISES {
            assert_eq!(found("a.sh", &format!("# {word}: later\n")).len(), 1, "{word}");
            assert!(found("a.sh", &format!("mktemp {word}{word}\n")).is_empty(), "{word}");
        }
    }

    #[test]
    fn folders_of_one_machine_are_found_and_relative_paths_are_not() {
        for path in MACHINE {
            assert_eq!(found("a.md", &format!("see `{path}x`\n")).len(), 1, "{path}");
            assert!(found("a.md", &format!("see docs{path}x and $HOME/a{path}\n")).is_empty(), "{path}");
        }
    }
}
