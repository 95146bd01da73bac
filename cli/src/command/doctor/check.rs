//! One line of the doctor's: what was checked, how it is, and what to do.

use crate::print::table;
use comfy_table::{Cell, Color};
use longshore_schema::text::printable;
use serde::Serialize;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// It doesn't work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was checked.
    pub(super) what: String,
    /// How it is.
    pub(super) outcome: Outcome,
    /// What was found.
    pub(super) found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl Check {
    pub(super) fn ok(what: &str, found: impl Into<String>) -> Check {
        Check { what: what.into(), outcome: Outcome::Ok, found: found.into(), next: None }
    }

    pub(super) fn warn(what: &str, found: impl Into<String>, next: impl Into<String>) -> Check {
        Check { what: what.into(), outcome: Outcome::Warn, found: found.into(), next: Some(next.into()) }
    }

    pub(super) fn fail(what: &str, found: impl Into<String>, next: impl Into<String>) -> Check {
        Check { what: what.into(), outcome: Outcome::Fail, found: found.into(), next: Some(next.into()) }
    }
}

/// All of them, for people.
pub(super) fn text(checks: &[Check]) -> String {
    let mut rows = table::new(&["", "what", "found"]);
    for it in checks {
        let (word, colour) = match it.outcome {
            Outcome::Ok => ("ok", Color::Green),
            Outcome::Warn => ("warn", Color::Yellow),
            Outcome::Fail => ("fail", Color::Red),
        };
        let next = it.next.as_ref().map(|next| format!("\n-> {next}")).unwrap_or_default();
        rows.add_row([table::cell(word).fg(colour), table::cell(&it.what), Cell::new(format!("{}{next}", printable(&it.found)))]);
    }
    table::text(rows, &[2])
}
