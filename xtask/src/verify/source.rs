//! Rust's source as the style checks see it: which lines are code, which are tests, which are comments.

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing on it.
    Blank,
    /// Only a comment.
    Comment,
    /// Code that ships.
    Code,
    /// An item under `#[cfg(test)]`, and all in it.
    Test,
}

/// What each line of formatted source is. An item under `#[cfg(test)]` ends with the first line of no deeper
/// indentation that closes it.
pub fn lines(text: &str) -> Vec<Line> {
    let mut kinds = vec![];
    let mut test: Option<Item> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indentation = line.len() - trimmed.len();
        if test.is_none() && trimmed.starts_with("#[cfg(test)]") {
            test = Some(Item { indentation, begun: false });
        } else if test.is_none() {
            kinds.push(kind(trimmed));
            continue;
        }
        kinds.push(Line::Test);
        test = test.and_then(|item| item.after(trimmed, indentation));
    }
    kinds
}

/// An item that is being passed over.
struct Item {
    indentation: usize,
    /// Whether its first line after the attributes was seen.
    begun: bool,
}

impl Item {
    /// The item after one more line; `None` if it ended there.
    fn after(self, trimmed: &str, indentation: usize) -> Option<Item> {
        if indentation != self.indentation || trimmed.is_empty() || trimmed.starts_with("#[") || trimmed.starts_with("//") {
            return Some(self);
        }
        let closes = trimmed.starts_with('}') || trimmed.ends_with(';') || (!self.begun && trimmed.ends_with('}'));
        (!closes).then_some(Item { begun: true, ..self })
    }
}

fn kind(trimmed: &str) -> Line {
    if trimmed.is_empty() {
        Line::Blank
    } else if trimmed.starts_with("//") {
        Line::Comment
    } else {
        Line::Code
    }
}

#[cfg(test)]
mod tests {
    use super::{Line::*, *};

    #[test]
    fn a_test_module_and_a_test_item_are_not_code_and_what_follows_them_is() {
        let text = "\
//! Header.

use a;
#[cfg(test)]
use b;
fn code() {
    1;
}
#[cfg(test)]
#[derive(Debug)]
mod tests {
    fn inner() {
    }

    const RAW: &str = \"x\";
}
fn more() {}
";
        let expected = [Comment, Blank, Code, Test, Test, Code, Code, Code, Test, Test, Test, Test, Test, Test, Test, Test, Code];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn a_method_under_test_ends_where_it_closes() {
        let text = "impl A {\n    #[cfg(test)]\n    fn t() {\n        x\n    }\n\n    fn u() {}\n}\n";
        assert_eq!(lines(text), [Code, Test, Test, Test, Test, Blank, Code, Code]);
    }

    #[test]
    fn a_test_function_on_one_line_ends_there() {
        assert_eq!(lines("#[cfg(test)]\nfn t() {}\nfn code() {}\n"), [Test, Test, Code]);
    }
}
