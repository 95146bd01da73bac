//! What a key is. Every store refuses the same ones, so that what works on one works on all; names that
//! begin with a dot belong to the backends (temporary files, a file server's snapshots).

use longshore_schema::fault::{Fault, code};

/// The longest key in bytes.
const LONGEST: usize = 512;
/// With this, the longest key fits the 1024 bytes of S3 and Swift.
const LONGEST_PREFIX: usize = 400;
/// The longest part between two `/`, in bytes: a file's name.
const LONGEST_SEGMENT: usize = 255;

/// Whether `key` may name an object.
pub fn is_key(key: &str) -> bool {
    key.len() <= LONGEST && key.split('/').all(is_segment)
}

fn is_segment(segment: &str) -> bool {
    (1..=LONGEST_SEGMENT).contains(&segment.len())
        && !segment.starts_with('.')
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// `command.malformed` unless `key` may name an object.
pub fn check(key: &str) -> Result<(), Fault> {
    is_key(key).then_some(()).ok_or_else(|| malformed("key", key))
}

/// `command.malformed` unless some key starts with `prefix`.
pub fn check_prefix(prefix: &str) -> Result<(), Fault> {
    is_key(&format!("{prefix}x")).then_some(()).ok_or_else(|| malformed("prefix of keys", prefix))
}

/// What a url says that the keys of its store begin with, as a prefix of them: empty, or a plain path that ends in `/`.
pub(super) fn prefix_of_url(path: &str) -> Option<String> {
    match path.trim_end_matches('/') {
        "" => Some(String::new()),
        path => (path.len() <= LONGEST_PREFIX && is_key(path)).then(|| format!("{path}/")),
    }
}

fn malformed(what: &str, text: &str) -> Fault {
    let shown: String = text.chars().take(80).collect();
    Fault::permanent(code::COMMAND_MALFORMED, format!("{shown:?} is not a {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_are_keys() {
        for good in ["a", "a/b", "store.json", "packs/0198-af/1-0", "A_b-c.d", "a..b/c."] {
            assert!(is_key(good), "{good}");
        }
        let long = "x".repeat(LONGEST_SEGMENT + 1);
        let longer = vec!["x"; LONGEST].join("/");
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", ".tmp/x", "a/.b", "ä", "a b", "a\n", "a\0", "a\\b",
            "a%2e", &long, &longer,
        ] {
            assert!(check(bad).is_err_and(|fault| fault.code == code::COMMAND_MALFORMED), "{bad}");
        }
    }

    #[test]
    fn the_prefix_of_a_url_is_a_plain_path() {
        for (path, prefix) in
            [("", Some("")), ("/", Some("")), ("a", Some("a/")), ("a/b/", Some("a/b/")), ("a//b", None), ("../a", None)]
        {
            assert_eq!(prefix_of_url(path).as_deref(), prefix, "{path}");
        }
        assert_eq!(prefix_of_url(&"x/".repeat(300)), None);
    }

    #[test]
    fn a_prefix_may_end_anywhere_in_a_key() {
        for good in ["", "a", "a/", "packs/0198"] {
            assert!(check_prefix(good).is_ok(), "{good}");
        }
        for bad in ["/", "../", "..", "a//", "a/../", ".tmp"] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
    }
}
