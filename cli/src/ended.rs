//! How a subcommand ends when it doesn't end well, and the exit code of each end: one total match, which is
//! the contract's list.

use longshore_schema::{
    fault::{Class, Fault, chain, code},
    ids::OperationId,
    text::printable,
};
use serde_json::json;
use std::process::ExitCode;

/// Every end of a subcommand but the good one.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The command was refused.
    Refused(Fault),
    /// The operation ended, but not as it was asked for.
    Failed {
        /// Which.
        operation: OperationId,
        /// Its last state.
        state: String,
        /// Why.
        fault: Option<Fault>,
    },
    /// A check found something; what, was printed.
    Found(String),
    /// The command line or a file that it names is wrong.
    Usage(String),
    /// There is no such operation.
    NotFound(OperationId),
    /// The database, the broker or a store doesn't answer.
    Unreachable(anyhow::Error),
    /// Somebody pressed Ctrl-C. What was accepted goes on.
    Interrupted(Option<OperationId>),
    /// Who read our output went away: nothing to say, and nobody to say it to.
    Unread,
    /// Something of ours, or of this host, is wrong.
    Broken(anyhow::Error),
}

impl Ended {
    /// A mistake on the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Ended {
        Ended::Usage(message.into())
    }

    /// For `map_err`: what was tried to reach didn't answer.
    pub(crate) fn unreachable(error: impl Into<anyhow::Error>) -> Ended {
        Ended::Unreachable(error.into())
    }

    /// The number of the contract.
    pub(crate) fn number(&self) -> u8 {
        match self {
            Ended::Unread => 0,
            Ended::Failed { .. } | Ended::Found(_) | Ended::Broken(_) => 1,
            Ended::Refused(fault) => match (fault.code.as_str(), fault.class) {
                (code::OPERATION_UNKNOWN, _) => 4,
                (_, Class::Transient) => 3,
                (_, Class::Permanent | Class::Cancelled) => 1,
            },
            Ended::Usage(_) => 2,
            Ended::NotFound(_) => 4,
            Ended::Unreachable(_) => 5,
            Ended::Interrupted(_) => 130,
        }
    }

    /// The same, for `main`.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    /// Says it on stderr: as text, or as one JSON object.
    pub(crate) fn print(&self, json: bool) {
        if matches!(self, Ended::Unread) {
            return;
        }
        if json {
            eprintln!("{}", json!({"error": self.message(), "fault": self.fault(), "exit_code": self.number()}));
            return;
        }
        if !self.message().is_empty() {
            eprintln!("longshore: {}", lines(&self.message()));
        }
        if let Some(fault) = self.fault() {
            eprintln!("  page: docs/faults/{}.md", fault.code);
            if let Some(seconds) = fault.retry_after_s {
                eprintln!("  try again in {seconds} s");
            }
        }
        if let Some(next) = self.next_step() {
            eprintln!("  {next}");
        }
    }

    fn fault(&self) -> Option<&Fault> {
        match self {
            Ended::Refused(fault) => Some(fault),
            Ended::Failed { fault, .. } => fault.as_ref(),
            Ended::Found(_)
            | Ended::Usage(_)
            | Ended::NotFound(_)
            | Ended::Unreachable(_)
            | Ended::Interrupted(_)
            | Ended::Unread
            | Ended::Broken(_) => None,
        }
    }

    /// What happened, in one line.
    pub(crate) fn message(&self) -> String {
        match self {
            Ended::Refused(fault) => format!("refused: {fault}"),
            Ended::Failed { operation, state, fault: Some(fault) } => format!("operation {operation} {}: {fault}", said(state)),
            Ended::Failed { operation, state, fault: None } => format!("operation {operation} {}", said(state)),
            Ended::Found(what) | Ended::Usage(what) => what.clone(),
            Ended::NotFound(operation) => format!("there is no operation {operation}"),
            Ended::Unreachable(error) | Ended::Broken(error) => chain(error.as_ref()),
            Ended::Interrupted(_) => "interrupted".into(),
            Ended::Unread => String::new(),
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Ended::Failed { operation, .. } => Some(format!("what happened: longshore history {operation}")),
            Ended::NotFound(_) => Some("longshore list shows what there is".into()),
            Ended::Unreachable(_) => Some("longshore doctor checks what this host reaches".into()),
            Ended::Interrupted(Some(operation)) => Some(format!("the operation goes on: longshore watch {operation}")),
            Ended::Refused(_)
            | Ended::Found(_)
            | Ended::Usage(_)
            | Ended::Interrupted(None)
            | Ended::Unread
            | Ended::Broken(_) => None,
        }
    }
}

/// A message of possibly several lines, of which parts may come from anywhere.
fn lines(message: &str) -> String {
    message.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// `failed` is a verb, every other state isn't.
fn said(state: &str) -> String {
    if state == "failed" { state.to_owned() } else { format!("is {state}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let id = OperationId::new();
        let failed = |fault| Ended::Failed { operation: id, state: "failed".into(), fault: Some(fault) };
        for (ended, number) in [
            (Ended::Refused(Fault::permanent(code::POOL_UNKNOWN, "")), 1),
            (Ended::Refused(Fault::transient(code::STORE_FULL, "")), 3),
            (Ended::Refused(Fault::permanent(code::OPERATION_UNKNOWN, "")), 4),
            (failed(Fault::cancelled("")), 1),
            (failed(Fault::transient(code::STORE_FULL, "")), 1),
            (Ended::Found("x".into()), 1),
            (Ended::usage("x"), 2),
            (Ended::NotFound(id), 4),
            (Ended::unreachable(anyhow::anyhow!("x")), 5),
            (Ended::Interrupted(None), 130),
            (Ended::Unread, 0),
            (Ended::Broken(anyhow::anyhow!("x")), 1),
        ] {
            assert_eq!(ended.number(), number, "{ended:?}");
        }
    }
}
