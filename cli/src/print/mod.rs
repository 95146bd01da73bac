//! Results on stdout: tables for people, JSON for programs. A reader that goes away is no error.

pub(crate) mod human;
pub(crate) mod operation;
pub(crate) mod table;

use crate::ended::Ended;
use longshore_schema::text::printable;
use serde::Serialize;
use std::io::Write;

/// Prints results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// For programs.
    pub(crate) json: bool,
}

impl Printer {
    /// A line, or several, for people.
    pub(crate) fn text(&self, text: impl std::fmt::Display) -> Result<(), Ended> {
        write(&format!("{text}\n"))
    }

    /// One JSON object on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Ended> {
        let text = serde_json::to_string(value).map_err(|error| Ended::Broken(error.into()))?;
        write(&format!("{text}\n"))
    }

    /// JSON Lines, or what `people` makes of all of them.
    pub(crate) fn list<T: Serialize>(&self, items: &[T], people: impl FnOnce(&[T]) -> String) -> Result<(), Ended> {
        if self.json {
            return items.iter().try_for_each(|it| self.json(it));
        }
        self.text(people(items))
    }

    /// Something that isn't the result, on stderr: for programs an object on a line of its own.
    pub(crate) fn notice(&self, text: &str) {
        match self.json {
            true => eprintln!("{}", serde_json::json!({"notice": text})),
            false => eprintln!("{}", printable(text)),
        }
    }

    /// One JSON object, or what `people` makes of it.
    pub(crate) fn one<T: Serialize>(&self, item: &T, people: impl FnOnce(&T) -> String) -> Result<(), Ended> {
        if self.json { self.json(item) } else { self.text(people(item)) }
    }
}

fn write(text: &str) -> Result<(), Ended> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Ended::Unread),
        Err(error) => Err(Ended::Broken(anyhow::Error::new(error).context("write to stdout"))),
    }
}
