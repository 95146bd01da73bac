//! Why a request to Swift, or to who gives tokens for it, failed, and the fault that it makes. The status decides: what is said
//! besides is for people, and differs from service to service.

use hyper::StatusCode;
use longshore_schema::fault::{Fault, code};
use std::fmt::Display;

/// What went wrong, as far as it matters to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The condition of a put wasn't met: the key exists.
    Exists,
    /// What is there is as new as what was put, or newer.
    Conflict,
    /// No such key, or no such container.
    Absent,
    Denied,
    /// Over a quota, or no room on the devices.
    Full,
    /// The body that arrived isn't the one whose MD5 was sent.
    Damaged,
    /// No such bytes: the object is shorter.
    Short,
    /// Slow, overloaded, away, or broke off.
    Away,
    /// What the site file says doesn't go with what is there.
    Site,
    /// Anything else that was answered.
    Odd,
}

impl Cause {
    /// Of a status that isn't what was hoped for. Swift accepts (202) a put that it then leaves alone, as something newer is there.
    pub(super) fn of(status: StatusCode) -> Cause {
        match status.as_u16() {
            202 | 409 => Cause::Conflict,
            401 | 403 => Cause::Denied,
            404 | 410 => Cause::Absent,
            412 => Cause::Exists,
            413 | 507 => Cause::Full,
            416 => Cause::Short,
            422 => Cause::Damaged,
            // 498 is what it says to those that it slows down, 499 to those whose body didn't arrive.
            408 | 425 | 429 | 498 | 499 | 500..=599 => Cause::Away,
            _ => Cause::Odd,
        }
    }
}

/// A request that failed, and what there is to say about it. Never holds a token or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) said: String,
    /// Seconds after which the service wants to be asked again.
    pub(super) wait_s: Option<u32>,
}

impl Failure {
    pub(super) fn new(cause: Cause, said: impl Into<String>) -> Failure {
        Failure { cause, said: said.into(), wait_s: None }
    }

    /// The same with what was being done in front.
    pub(super) fn while_(self, doing: impl Display) -> Failure {
        Failure { said: format!("{doing}: {}", self.said), ..self }
    }

    /// The fault of what was being done.
    pub(super) fn fault(self, doing: impl Display) -> Fault {
        let message = format!("{doing}: {}", self.said);
        let fault = match self.cause {
            Cause::Absent | Cause::Short => Fault::permanent(code::OBJECT_MISSING, message),
            Cause::Denied => Fault::permanent(code::STORE_DENIED, message),
            Cause::Full => Fault::transient(code::STORE_FULL, message),
            Cause::Away | Cause::Conflict | Cause::Damaged => Fault::transient(code::STORE_UNAVAILABLE, message),
            Cause::Site => Fault::permanent(code::SITE_INVALID, message),
            Cause::Exists | Cause::Odd => Fault::permanent(code::STORE_MISBEHAVED, message),
        };
        match self.wait_s {
            Some(seconds) if fault.is_transient() => fault.retry_after(seconds.min(3600)),
            _ => fault,
        }
    }
}

/// Somebody else's text, fit for a message of ours: without HTML's tags and what can't be printed.
pub(super) fn plain(text: &str) -> String {
    let (mut shown, mut in_tag) = (String::new(), false);
    for it in text.chars() {
        match it {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                shown.push(' ');
            }
            _ if in_tag => (),
            it if it.is_control() => shown.push(' '),
            it => shown.push(it),
        }
    }
    let words: Vec<_> = shown.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_cause() {
        for (status, wanted) in [
            (202, Cause::Conflict),
            (301, Cause::Odd),
            (400, Cause::Odd),
            (401, Cause::Denied),
            (403, Cause::Denied),
            (404, Cause::Absent),
            (409, Cause::Conflict),
            (411, Cause::Odd),
            (412, Cause::Exists),
            (413, Cause::Full),
            (416, Cause::Short),
            (422, Cause::Damaged),
            (429, Cause::Away),
            (498, Cause::Away),
            (500, Cause::Away),
            (503, Cause::Away),
            (507, Cause::Full),
        ] {
            assert_eq!(Cause::of(StatusCode::from_u16(status).unwrap()), wanted, "{status}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_transient_and_only_that_says_when_to_come_again() {
        let late = |cause| Failure { wait_s: Some(10_000), ..Failure::new(cause, "no") }.fault("write a");
        assert_eq!(late(Cause::Away).retry_after_s, Some(3600));
        assert_eq!(late(Cause::Away).message, "write a: no");
        for (cause, transient) in [(Cause::Full, true), (Cause::Damaged, true), (Cause::Denied, false), (Cause::Odd, false)] {
            let fault = late(cause);
            assert_eq!((fault.is_transient(), fault.retry_after_s.is_some()), (transient, transient), "{cause:?}");
        }
    }

    #[test]
    fn what_a_store_says_is_made_fit_to_print() {
        assert_eq!(plain("<html><h1>Not Found</h1><p>It isn't there.</p></html>"), "Not Found It isn't there.");
        assert_eq!(plain("Upload exceeds quota.\n\u{1b}[31m"), "Upload exceeds quota. [31m");
        assert_eq!(plain(&"x".repeat(1000)).len(), 300);
        assert_eq!(plain("1 > 0"), "1 > 0");
    }
}
