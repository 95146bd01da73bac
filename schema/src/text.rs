//! Texts from outside, as people may be shown them.

use std::fmt::Write;

/// Control characters, and those that change the direction of what follows: they would forge what people are shown.
pub fn is_unprintable(it: char) -> bool {
    it.is_control() || matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with such characters written out: `\u{1b}`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for it in text.chars() {
        match is_unprintable(it) {
            // Writing to a String never fails.
            true => drop(write!(shown, "{}", it.escape_default())),
            false => shown.push(it),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_forge_a_line_is_written_out_and_the_rest_stays() {
        for (text, shown) in [
            ("Montag ä 映像 e\u{301} 😀", "Montag ä 映像 e\u{301} 😀"),
            ("a\x1b[2Jb\nc\rd\te\0", "a\\u{1b}[2Jb\\nc\\rd\\te\\u{0}"),
            ("\u{202e}gpj.raw\u{2066}", "\\u{202e}gpj.raw\\u{2066}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
