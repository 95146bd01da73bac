//! The command line: what every subcommand takes, and the list of subcommands.

use crate::command;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use std::path::PathBuf;

/// Where `--help` lists what every subcommand takes.
const GLOBAL: &str = "Options of every command";

/// Moves VM disks between hypervisors and object stores, exactly once, and can show what happened.
///
/// Exit codes: 0 done, or accepted · 1 failed, cancelled, refused for good, or a check found something ·
/// 2 usage · 3 refused for now, try later · 4 not found · 5 cannot reach database, broker or store ·
/// 130 interrupted, the operation goes on.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// sqlite://PATH or postgres://USER@HOST/NAME; SQLite in the user's data directory if absent. [env: LONGSHORE_DATABASE]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// amqp://…, amqps://… or embedded: engine and workers in one process. Embedded if absent. [env: LONGSHORE_BROKER]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Instead of ./longshore.toml, or the one in the user's configuration directory. [env: LONGSHORE_CONFIG]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// JSON for programs; lists are JSON Lines.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// What to log, for example info,longshore_engine=debug. [env: LONGSHORE_LOG]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How to log; text if absent. [env: LONGSHORE_LOG_FORMAT]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Log more; twice for still more.
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The command line, then the environment for what every subcommand takes. Clap's own `env` would have its mistakes
    /// list these options as if they were required.
    pub(crate) fn read() -> Result<Arguments, clap::Error> {
        Arguments::try_parse()?.or_from(|name| std::env::var(name).ok().filter(|it| !it.is_empty()))
    }

    fn or_from(mut self, environment: impl Fn(&str) -> Option<String>) -> Result<Arguments, clap::Error> {
        self.database = self.database.or_else(|| environment("LONGSHORE_DATABASE"));
        self.broker = self.broker.or_else(|| environment("LONGSHORE_BROKER"));
        self.config = self.config.or_else(|| environment("LONGSHORE_CONFIG").map(PathBuf::from));
        self.log = self.log.or_else(|| environment("LONGSHORE_LOG"));
        if let (None, Some(said)) = (self.log_format, environment("LONGSHORE_LOG_FORMAT")) {
            let format = LogFormat::from_str(&said, true);
            let wrong = |_| Arguments::command().error(ErrorKind::InvalidValue, "LONGSHORE_LOG_FORMAT is text or json");
            self.log_format = Some(format.map_err(wrong)?);
        }
        Ok(self)
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object a line.
    Json,
}

/// The subcommands, in the order in which somebody new needs them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job on this machine: back up, change, back up again, restore, compare.
    Demo(command::demo::Demo),
    /// Run an engine; with the embedded broker, workers too.
    Engine(command::engine::Engine),
    /// Run a worker.
    Worker(command::worker::Worker),
    /// Zones, stores, pools and users.
    #[command(subcommand)]
    Site(command::site::Site),
    /// Ask for an operation.
    Submit(command::submit::Submit),
    /// Show what an operation would do, and why; does nothing.
    Plan(command::plan::Plan),
    /// Read every byte of an object back and check it.
    Verify(command::verify::Verify),
    /// List operations, the newest first.
    List(command::list::List),
    /// Show one operation.
    Show(command::show::Show),
    /// Watch operations until they end.
    Watch(command::watch::Watch),
    /// Show what happened to an operation.
    History(command::history::History),
    /// Show what happened to all operations, the newest first.
    Audit(command::audit::Audit),
    /// Stop an operation and undo what it did.
    Cancel(command::cancel::Cancel),
    /// Remove what an operation made.
    Destroy(command::destroy::Destroy),
    /// Try a step that rests again now.
    Retry(command::retry::Retry),
    /// Give the undo of an operation up; what may remain stays booked.
    Abandon(command::abandon::Abandon),
    /// List stores with their space.
    Stores(command::stores::Stores),
    /// List workers and what they reach.
    Workers(command::workers::Workers),
    /// Check database, broker, stores, pools, tools and clock.
    Doctor(command::doctor::Doctor),
    /// Print completions for a shell.
    Completions(command::completions::Completions),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_environment_fills_what_the_command_line_leaves_out() {
        let environment = |name: &str| match name {
            "LONGSHORE_DATABASE" => Some("sqlite://environment".to_owned()),
            "LONGSHORE_BROKER" => Some("amqp://environment".to_owned()),
            "LONGSHORE_LOG_FORMAT" => Some("json".to_owned()),
            _ => None,
        };
        let read =
            Arguments::try_parse_from(["longshore", "list", "--broker", "embedded"]).unwrap().or_from(environment).unwrap();
        assert_eq!((read.database.as_deref(), read.broker.as_deref()), (Some("sqlite://environment"), Some("embedded")));
        assert_eq!(read.log_format, Some(LogFormat::Json));
        let wrong = Arguments::try_parse_from(["longshore", "list"]).unwrap().or_from(|_| Some("x".into()));
        assert!(wrong.unwrap_err().to_string().contains("LONGSHORE_LOG_FORMAT"));
    }

    #[test]
    fn json_is_taken_before_and_after_the_subcommand() {
        for line in ["longshore --json list", "longshore list --json"] {
            assert!(Arguments::try_parse_from(line.split(' ')).unwrap().json, "{line}");
        }
    }
}
