//! The command line: what every subcommand takes, and the list of subcommands.

use crate::command;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Moves VM disks between hypervisors and object stores, exactly once, and can show what happened.
///
/// Exit codes: 0 done, or accepted · 1 failed, cancelled, refused for good, or a check found something ·
/// 2 usage · 3 refused for now, try later · 4 not found · 5 cannot reach database, broker or store ·
/// 130 interrupted, the operation goes on.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// sqlite://PATH or postgres://USER@HOST/NAME; SQLite in the user's data directory if absent.
    #[arg(long, global = true, env = "LONGSHORE_DATABASE", hide_env_values = true, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// amqp://…, amqps://… or embedded: engine and workers in one process. Embedded if absent.
    #[arg(long, global = true, env = "LONGSHORE_BROKER", hide_env_values = true, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Instead of ./longshore.toml, or the one in the user's configuration directory.
    #[arg(long, global = true, env = "LONGSHORE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// JSON for programs; lists are JSON Lines.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log, for example info,longshore_engine=debug.
    #[arg(long, global = true, env = "LONGSHORE_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How to log.
    #[arg(long, global = true, env = "LONGSHORE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Log more; twice for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn json_is_taken_before_and_after_the_subcommand() {
        for line in ["longshore --json list", "longshore list --json"] {
            assert!(Arguments::try_parse_from(line.split(' ')).unwrap().json, "{line}");
        }
    }
}
