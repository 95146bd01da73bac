//! `Content-Range`, which says what bytes an answer has (RFC 9110, section 14.4).

use std::ops::Range;

/// What an answer has of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Exactly that.
    Exact,
    /// The object has only so many bytes.
    Shorter(u64),
    /// Something else.
    Other,
}

/// Compares a header with the range that was asked for, which isn't empty.
pub(super) fn fit(header: &str, asked: &Range<u64>) -> Fit {
    match parse(header) {
        Some((_, _, Some(total))) if total < asked.end => Fit::Shorter(total),
        Some((first, last, _)) if (first, last) == (asked.start, asked.end - 1) => Fit::Exact,
        Some(_) | None => Fit::Other,
    }
}

/// `bytes 3-7/10`: first, last, and the total unless it is `*`.
fn parse(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_or_refused() {
        assert_eq!(parse("bytes 3-7/10"), Some((3, 7, Some(10))));
        assert_eq!(parse("bytes 3-7/*"), Some((3, 7, None)));
        for wrong in ["", "3-7/10", "bytes 3-7", "bytes -7/10", "bytes 3-/10", "bytes */10", "bytes 3-7/x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_bytes_that_were_asked_for_fit() {
        for (header, wanted) in [
            ("bytes 2-5/10", Fit::Exact),
            ("bytes 2-5/*", Fit::Exact),
            ("bytes 2-5/6", Fit::Exact),
            ("bytes 2-3/4", Fit::Shorter(4)),
            ("bytes 2-4/10", Fit::Other),
            ("bytes 0-5/10", Fit::Other),
            ("rubbish", Fit::Other),
        ] {
            assert_eq!(fit(header, &(2..6)), wanted, "{header}");
        }
    }
}
