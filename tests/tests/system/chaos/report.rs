//! What a run did, one line each: for people on the terminal, or as JSON Lines in the file that the environment names.

use super::setting;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs::File, io::Write};

/// Where the lines go.
pub(super) struct Report {
    json: Option<File>,
}

impl Report {
    pub(super) fn new() -> Report {
        let path = std::env::var_os("LONGSHORE_CHAOS_REPORT");
        Report { json: path.map(|path| File::options().create(true).append(true).open(path).unwrap()) }
    }

    pub(super) fn begins(&mut self, seed: u64, kills: u64) {
        let again = if setting("SEED").is_some() { "" } else { " (the same again: --seed)" };
        self.line(&format!("seed {seed}, {kills} kills{again}"), &json!({"seed": seed, "kills": kills}));
    }

    pub(super) fn kills(&mut self, n: u64, signal: &str, part: &str, events: u64) {
        let line = format!("{n}: SIG{signal} to {part} after {events} events");
        self.line(&line, &json!({"n": n, "signal": signal, "part": part, "events": events}));
    }

    pub(super) fn ends(&mut self, states: &BTreeMap<String, usize>, restored: usize, announced: usize) {
        let line = format!("all is well: {states:?}, {restored} snapshots restored bit for bit, {announced} events");
        self.line(&line, &json!({"operations": states, "restored": restored, "events": announced}));
    }

    fn line(&mut self, text: &str, value: &Value) {
        println!("chaos: {text}");
        if let Some(file) = &mut self.json {
            writeln!(file, "{value}").unwrap();
        }
    }
}
