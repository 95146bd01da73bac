//! What was measured, as lines of JSON or as a table.

use super::{measure::Cost, server::Traffic};
use crate::output;
use anyhow::Result;
use serde_json::{Value, json};

/// One job of one tool.
#[derive(Debug, Clone)]
pub struct Row {
    /// `full`, `incremental`, …
    pub job: &'static str,
    /// Which tool.
    pub tool: String,
    /// What it cost.
    pub cost: Cost,
}

/// All of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
    json: bool,
}

impl Report {
    /// An empty one.
    pub fn new(json: bool) -> Result<Report> {
        if !json {
            output::line(format_args!(
                "{:22} {:18} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}",
                "job", "tool", "wall s", "CPU s", "server s", "peak MiB", "sent MiB", "got MiB", "requests"
            ))?;
        }
        Ok(Report { rows: vec![], json })
    }

    /// Adds a row and prints it.
    pub fn add(&mut self, job: &'static str, tool: impl Into<String>, cost: &Cost) -> Result<()> {
        let row = Row { job, tool: tool.into(), cost: cost.clone() };
        let tool = &row.tool;
        match self.json {
            true => {
                let mut line = json!(cost);
                line["job"] = json!(job);
                line["tool"] = json!(tool);
                output::line(line)?;
            }
            false => output::line(format_args!(
                "{job:22} {tool:18} {:8.2} {:8.2} {:9.2} {:9.0} {}",
                cost.wall_s,
                cost.cpu_s,
                cost.server_cpu_s,
                cost.peak_rss_mib,
                counted(cost.traffic)
            ))?,
        }
        self.rows.push(row);
        Ok(())
    }

    /// What a tool needed for a job, if it was measured.
    pub fn cost(&self, job: &str, tool: &str) -> Option<&Cost> {
        self.rows.iter().find(|row| row.job == job && row.tool == tool).map(|row| &row.cost)
    }

    /// Wall time of the one tool by that of the other.
    pub fn ratio(&self, job: &str, tool: &str, other: &str) -> Option<f64> {
        Some(self.cost(job, tool)?.wall_s / self.cost(job, other)?.wall_s)
    }

    /// Processor time of the one tool, the server's included, by that of the other: other work on the machine hardly changes it.
    pub fn cpu_ratio(&self, job: &str, tool: &str, other: &str) -> Option<f64> {
        Some(self.cost(job, tool)?.cpu_in_all() / self.cost(job, other)?.cpu_in_all())
    }

    /// Prints the sums of the run.
    pub fn end(&self, sums: &Value) -> Result<()> {
        match (self.json, sums.as_object()) {
            (false, Some(sums)) => sums.iter().try_for_each(|(name, value)| output::line(format_args!("{name}: {value}"))),
            _ => output::line(sums),
        }
    }
}

/// The columns of what the server counted.
fn counted(traffic: Option<Traffic>) -> String {
    match traffic {
        Some(Traffic { sent_mib, received_mib, requests }) => format!("{sent_mib:9.1} {received_mib:9.1} {requests:8.0}"),
        None => format!("{:>9} {:>9} {:>8}", "-", "-", "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_counted_is_a_dash_as_wide_as_a_figure() {
        let zeros = counted(Some(Traffic::default()));
        assert_eq!(counted(None), zeros.replace("0.0", "  -").replace('0', "-"));
    }
}
