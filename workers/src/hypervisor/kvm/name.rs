//! Names from strangers: a volume is a plain file name in the pool's directory, and nothing else.

use longshore_schema::{
    fault::{Fault, code, shown},
    ids::OperationId,
};

/// Longest name of a volume, in bytes: file systems take 255, and tools want to add to it.
const LONGEST: usize = 200;
/// Longest name of a snapshot, in bytes: QEMU's own tools take 255.
const LONGEST_SNAPSHOT: usize = 255;

/// `command.malformed` unless it is a plain file name. A leading dot is ours: drafts have it.
pub(super) fn check_volume(name: &str) -> Result<(), Fault> {
    let plain = (1..=LONGEST).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|it| it == '/' || it == '\\' || it.is_control());
    plain.then_some(()).ok_or_else(|| {
        malformed(format!(
            "{:?} is no volume's name: a plain file name, at most {LONGEST} bytes, not beginning with a dot",
            shown(name)
        ))
    })
}

/// `command.malformed` unless a snapshot can have that name.
pub(super) fn check_snapshot(name: &str) -> Result<(), Fault> {
    let fits = (1..=LONGEST_SNAPSHOT).contains(&name.len()) && !name.chars().any(char::is_control);
    fits.then_some(())
        .ok_or_else(|| malformed(format!("{:?} is no snapshot's name: 1 to {LONGEST_SNAPSHOT} bytes of text", shown(name))))
}

/// The file of one attempt, until it is published.
pub(super) fn draft(operation: OperationId, attempt: u32) -> String {
    format!("{}{attempt}.draft", drafts(operation))
}

/// Whether a file is one of the operation's drafts, of any attempt.
pub(super) fn is_draft_of(operation: OperationId, file: &str) -> bool {
    attempt_of(operation, file).is_some()
}

/// Which attempt's draft of the operation a file is.
pub(super) fn attempt_of(operation: OperationId, file: &str) -> Option<u32> {
    let attempt = file.strip_prefix(&drafts(operation)).and_then(|it| it.strip_suffix(".draft"))?;
    attempt.bytes().all(|it| it.is_ascii_digit()).then(|| attempt.parse().ok()).flatten()
}

fn drafts(operation: OperationId) -> String {
    format!(".longshore-{operation}-")
}

fn malformed(message: String) -> Fault {
    Fault::permanent(code::COMMAND_MALFORMED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_told_by_their_operation() {
        let (ours, other) = (OperationId::new(), OperationId::new());
        assert!(is_draft_of(ours, &draft(ours, 12)));
        assert!(!is_draft_of(ours, &draft(other, 12)));
        assert_eq!(attempt_of(ours, &draft(ours, 12)), Some(12));
        for wrong in ["", "12", ".longshore-", &format!(".longshore-{ours}-.draft"), &format!(".longshore-{ours}-1x.draft")] {
            assert!(!is_draft_of(ours, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_draft_is_never_a_volumes_name() {
        assert!(check_volume(&draft(OperationId::new(), 1)).is_err());
    }
}
