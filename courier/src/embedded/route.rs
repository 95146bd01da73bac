//! Which bindings a routing key matches: AMQP 0-9-1, 3.1.3.1 (direct) and 3.1.3.3 (topic).

use crate::exchanges::Kind;

/// Whether a binding with this pattern takes a message with this key.
pub(super) fn matches(kind: Kind, pattern: &str, key: &str) -> bool {
    match kind {
        Kind::Direct => pattern == key,
        Kind::Topic => {
            let words: Vec<&str> = if key.is_empty() { vec![] } else { key.split('.').collect() };
            let pattern: Vec<&str> = if pattern.is_empty() { vec![] } else { pattern.split('.').collect() };
            topic(&pattern, &words)
        }
    }
}

/// One row of a table at a time: `reached[n]` says whether the pattern so far can end after n words. It takes
/// pattern times words, whatever the pattern; recursion would take exponentially long for many `#`.
fn topic(pattern: &[&str], words: &[&str]) -> bool {
    let mut reached = vec![false; words.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; words.len() + 1];
        for n in 0..=words.len() {
            next[n] = match *part {
                "#" => reached[n] || (n > 0 && next[n - 1]),
                "*" => n > 0 && reached[n - 1],
                word => n > 0 && reached[n - 1] && words[n - 1] == word,
            };
        }
        reached = next;
    }
    reached[words.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_pattern_takes_what_it_should_and_nothing_else() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("#", &["", "a", "a.b.c"], &[]),
            ("*", &["a"], &["", "a.b"]),
            ("a.*", &["a.b"], &["a", "a.b.c", "b.a"]),
            ("a.#", &["a", "a.b", "a.b.c"], &["b", "ab", "b.a"]),
            ("#.z", &["z", "a.z", "a.b.z"], &["a.z.b", ""]),
            ("a.#.z", &["a.z", "a.b.z", "a.z.z"], &["a", "z", "a.b"]),
            ("#.#", &["", "a", "a.b"], &[]),
            ("*.#.*", &["a.b", "a.b.c"], &["", "a"]),
            ("a.b", &["a.b"], &["a.b.", "a.B", "a"]),
            ("", &[""], &["a"]),
        ];
        for (pattern, yes, no) in table {
            yes.iter().for_each(|key| assert!(matches(Kind::Topic, pattern, key), "{pattern} takes {key}"));
            no.iter().for_each(|key| assert!(!matches(Kind::Topic, pattern, key), "{pattern} doesn't take {key}"));
        }
    }

    #[test]
    fn a_direct_binding_has_no_wildcards() {
        assert!(matches(Kind::Direct, "all", "all"));
        assert!(!matches(Kind::Direct, "#", "all"));
    }

    #[test]
    fn many_hashes_are_matched_in_no_time() {
        let pattern = vec!["#"; 100].join(".") + ".end";
        let key = vec!["a"; 100].join(".");
        assert!(!matches(Kind::Topic, &pattern, &key));
    }
}
