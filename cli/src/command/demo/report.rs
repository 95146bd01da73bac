//! The demo's words: a line for each thing that was done, when it is done, and the figures at the end. With
//! `--json` it is one object at the end.

use crate::{
    ended::Ended,
    print::{Printer, human, table},
};
use longshore_engine::audit::OperationView;
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// What was done so far.
pub(super) struct Report {
    out: Printer,
    started: Instant,
    steps: Vec<Value>,
    figures: Value,
    kept: Option<String>,
}

/// Something that is being done.
pub(super) struct Doing {
    what: String,
    since: Instant,
}

impl Doing {
    /// Seconds until now.
    pub(super) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}

impl Report {
    pub(super) fn new(out: Printer) -> Report {
        Report { out, started: Instant::now(), steps: vec![], figures: Value::Null, kept: None }
    }

    /// The first line.
    pub(super) fn title(&self, text: &str) -> Result<(), Ended> {
        self.say(&format!("{text}\n"))
    }

    /// Something begins.
    pub(super) fn begin(&self, what: &str) -> Doing {
        Doing { what: what.to_owned(), since: Instant::now() }
    }

    /// It is done.
    pub(super) fn done(&mut self, doing: Doing, said: String, figures: Value) -> Result<(), Ended> {
        let took = doing.since.elapsed();
        let mut step = json!({"what": doing.what, "seconds": rounded(took)});
        if let (Some(step), Value::Object(figures)) = (step.as_object_mut(), figures) {
            step.extend(figures);
        }
        self.steps.push(step);
        let at = format!("{:.1} s", self.started.elapsed().as_secs_f64());
        let took = format!("{:.2} s", took.as_secs_f64());
        self.say(&format!("{at:>7}  {:<24} {took:>8}  {said}", doing.what))
    }

    /// The scratch folder stays.
    pub(super) fn kept(&mut self, folder: &Path) -> Result<(), Ended> {
        self.kept = Some(folder.display().to_string());
        let database = format!("sqlite://{}/longshore.db", folder.display());
        self.say(&format!("\nkept: {0}; look around with LONGSHORE_DATABASE={database} longshore list", folder.display()))
    }

    /// What it all came to.
    pub(super) fn figures(&mut self, size: u64, one: &OperationView, two: &OperationView) -> Result<(), Ended> {
        let of = |it: &OperationView, name: &str| it.output.as_ref().and_then(|it| it.get(name)?.as_u64()).unwrap_or(0);
        let stored = of(one, "stored") + of(two, "stored");
        self.figures = json!({
            "virtual_size": size, "stored": stored, "seconds": rounded(self.started.elapsed()),
            "first": {"read": of(one, "read"), "stored": of(one, "stored"), "reused": of(one, "reused")},
            "second": {"read": of(two, "read"), "stored": of(two, "stored"), "reused": of(two, "reused")},
        });
        let mut rows = table::new(&["", "read", "stored", "reused", "zeros"]);
        for (name, it) in [("first backup", one), ("second backup", two)] {
            let cells = ["read", "stored", "reused", "zeros"].map(|name| table::right(human::bytes(of(it, name))));
            rows.add_row([table::cell(name)].into_iter().chain(cells));
        }
        let share = |it: &OperationView| of(it, "stored") as f64 * 100.0 / size as f64;
        self.say(&format!("\n{}", table::text(rows, &[])))?;
        self.say(&format!(
            "\nTwo complete copies of a disk of {} took {} in the store: {:.1} % and {:.1} % of its size.\n\
             Each restores alone; the first was destroyed and the second is whole. {} in all.",
            human::bytes(size),
            human::bytes(stored),
            share(one),
            share(two),
            human::span(self.started.elapsed().as_secs_f64()),
        ))
    }

    /// The end.
    pub(super) fn end(self) -> Result<(), Ended> {
        if !self.out.json {
            return Ok(());
        }
        self.out.json(&json!({"ok": true, "steps": self.steps, "figures": self.figures, "kept": self.kept}))
    }

    fn say(&self, text: &str) -> Result<(), Ended> {
        if self.out.json { Ok(()) } else { self.out.text(text) }
    }
}

fn rounded(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}
