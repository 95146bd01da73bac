//! Faults: why something did not succeed, and therefore what Longshore does next. Every code has a page
//! in `docs/faults/`; a test compares the two lists.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the engine does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Worth another try after a pause.
    Transient,
    /// Trying again can't help: what was done is undone.
    Permanent,
    /// It was asked to stop, and did.
    Cancelled,
}

/// A failure with a class, a stable code and a documentation page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    /// A stable code such as `store.full`; the page is `docs/faults/{code}.md`.
    pub code: String,
    /// What the engine does about it.
    pub class: Class,
    /// For a person: what was being done to what, and why it failed. Never holds a secret.
    pub message: String,
    /// Seconds after which asking again makes sense, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// The registered codes. Use these constants, never a literal.
pub mod code {
    macro_rules! codes {
        ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
            $($(#[doc = $doc])+ pub const $name: &str = $text;)+
            /// All of them, in alphabetical order.
            pub const ALL: &[&str] = &[$($text),+];
        };
    }
    codes! {
        /// The undo was given up by an operator.
        ABANDONED = "abandoned";
        /// A request to stop was obeyed.
        CANCELLED = "cancelled";
        /// Past the point of no return: the operation will be finished.
        CANCEL_TOO_LATE = "cancel.too-late";
        /// The message id was used before, with another body.
        COMMAND_ID_REUSED = "command.id-reused";
        /// The body can't be parsed, or lacks a required property.
        COMMAND_MALFORMED = "command.malformed";
        /// The user may not act for that tenant.
        COMMAND_NOT_ALLOWED = "command.not-allowed";
        /// The body is over the limit.
        COMMAND_TOO_LARGE = "command.too-large";
        /// No operation or request of that kind.
        COMMAND_UNKNOWN_KIND = "command.unknown-kind";
        /// The deadline passed before the end.
        DEADLINE_PASSED = "deadline.passed";
        /// Something of ours is wrong; the message says what.
        INTERNAL = "internal";
        /// The volume looks like a disk format, and nobody declared which it has.
        IMAGE_FORMAT_UNDECLARED = "image.format-undeclared";
        /// The image can't be read as what it says it is, or asks for something unsafe.
        IMAGE_INVALID = "image.invalid";
        /// The image refers to what lies behind the end of its file.
        IMAGE_TRUNCATED = "image.truncated";
        /// The worker stopped renewing its lease, or never started the step.
        LEASE_LOST = "lease.lost";
        /// The object's bytes do not have the recorded digest.
        OBJECT_CORRUPT = "object.corrupt";
        /// The object is being destroyed, or is gone.
        OBJECT_GONE = "object.gone";
        /// A part of the object is missing from its store.
        OBJECT_MISSING = "object.missing";
        /// The object is not Ready.
        OBJECT_NOT_READY = "object.not-ready";
        /// The object can't be used for that.
        OBJECT_WRONG_KIND = "object.wrong-kind";
        /// No such operation.
        OPERATION_UNKNOWN = "operation.unknown";
        /// The operation's state does not allow the request.
        OPERATION_WRONG_STATE = "operation.wrong-state";
        /// No path leads from there to there with the workers and the policy of the site.
        PATH_UNAVAILABLE = "path.unavailable";
        /// The pool has no room for it.
        POOL_FULL = "pool.full";
        /// The pool can't be reached from the worker.
        POOL_UNREACHABLE = "pool.unreachable";
        /// No such pool.
        POOL_UNKNOWN = "pool.unknown";
        /// More bytes than were reserved.
        RESERVATION_EXCEEDED = "reservation.exceeded";
        /// The site file, or a change of it, can't be applied.
        SITE_INVALID = "site.invalid";
        /// Several snapshots of the volume have that name.
        SNAPSHOT_AMBIGUOUS = "snapshot.ambiguous";
        /// The store refused the credentials.
        STORE_DENIED = "store.denied";
        /// The store has no room for it.
        STORE_FULL = "store.full";
        /// The store belongs to another database or another format.
        STORE_FOREIGN = "store.foreign";
        /// The store did something that its protocol forbids.
        STORE_MISBEHAVED = "store.misbehaved";
        /// The store's bucket or directory does not exist.
        STORE_MISSING = "store.missing";
        /// The object is in that store already.
        STORE_SAME = "store.same";
        /// The store is slow, overloaded or away.
        STORE_UNAVAILABLE = "store.unavailable";
        /// No such store.
        STORE_UNKNOWN = "store.unknown";
        /// The worker was stopped and handed the step back.
        STEP_HANDED_BACK = "step.handed-back";
        /// The worker does not know this step.
        STEP_UNKNOWN = "step.unknown";
        /// The volume is not what it was when it was measured.
        VOLUME_CHANGED = "volume.changed";
        /// Another operation claims the volume.
        VOLUME_CLAIMED = "volume.claimed";
        /// A volume of that name exists and is not this operation's.
        VOLUME_EXISTS = "volume.exists";
        /// Somebody has the volume open for writing.
        VOLUME_IN_USE = "volume.in-use";
        /// No such volume, or no such snapshot in it.
        VOLUME_MISSING = "volume.missing";
        /// A volume's name must be a plain file name.
        VOLUME_NAME_INVALID = "volume.name-invalid";
        /// Reading the volume failed.
        VOLUME_READ_FAILED = "volume.read-failed";
        /// Writing the volume failed.
        VOLUME_WRITE_FAILED = "volume.write-failed";
        /// No worker can do it.
        WORKER_UNAVAILABLE = "worker.unavailable";
        /// No such zone.
        ZONE_UNKNOWN = "zone.unknown";
    }
}

impl Fault {
    /// A fault that another try may cure.
    pub fn transient(code: &str, message: impl Into<String>) -> Fault {
        Fault { code: code.into(), class: Class::Transient, message: message.into(), retry_after_s: None }
    }

    /// A fault that another try can't cure.
    pub fn permanent(code: &str, message: impl Into<String>) -> Fault {
        Fault { code: code.into(), class: Class::Permanent, message: message.into(), retry_after_s: None }
    }

    /// Something stopped because it was asked to.
    pub fn cancelled(message: impl Into<String>) -> Fault {
        Fault { code: code::CANCELLED.into(), class: Class::Cancelled, message: message.into(), retry_after_s: None }
    }

    /// The same fault, with the seconds after which asking again makes sense.
    pub fn retry_after(mut self, seconds: u32) -> Fault {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same fault with what was being done in front of its message.
    pub fn while_(mut self, doing: impl std::fmt::Display) -> Fault {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Whether another try makes sense.
    pub fn is_transient(&self) -> bool {
        match self.class {
            Class::Transient => true,
            Class::Permanent | Class::Cancelled => false,
        }
    }
}

/// A text from outside, as a message shows it: its beginning, if it is long.
pub fn shown(text: &str) -> String {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// The whole chain of an error's sources, joined by `: `, for a fault's message.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_from_outside_is_cut_between_characters() {
        assert_eq!(shown("disk"), "disk");
        assert_eq!(shown(&"ü".repeat(100)), "ü".repeat(100));
        assert_eq!(shown(&"ü".repeat(2500)), format!("{}… (5000 bytes)", "ü".repeat(100)));
    }

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for code in code::ALL {
            assert!(seen.insert(code), "{code} twice");
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '-'), "{code}");
        }
    }
}
