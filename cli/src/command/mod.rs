//! The subcommands: one file each. A file has the flags and what they do.

pub(crate) mod abandon;
pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod engine;
pub(crate) mod history;
pub(crate) mod kind;
pub(crate) mod list;
pub(crate) mod plan;
pub(crate) mod request;
pub(crate) mod retry;
pub(crate) mod show;
pub(crate) mod site;
pub(crate) mod stores;
pub(crate) mod submit;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod worker;
pub(crate) mod workers;

use crate::{
    arguments::{Arguments, Command, LogFormat},
    ended::Ended,
    logging,
    session::Session,
    settings::{Broker, File, Settings},
};

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Ended> {
    if let Command::Completions(command) = &arguments.command {
        return command.run();
    }
    // A demo is complete in itself: no settings of the user's reach it.
    let settings = match &arguments.command {
        Command::Demo(_) => Settings { database: String::new(), broker: Broker::Embedded, file: File::default() },
        _ => Settings::read(arguments.database.as_deref(), arguments.broker.as_deref(), arguments.config.as_deref())?,
    };
    logging::start(
        arguments.log.as_deref().or(settings.file.log.as_deref()),
        verbosity(&arguments),
        arguments.log_format.unwrap_or(LogFormat::Text),
    )?;
    let session = Session::new(&arguments, settings);
    match arguments.command {
        Command::Abandon(command) => command.run(&session).await,
        Command::Audit(command) => command.run(&session).await,
        Command::Cancel(command) => command.run(&session).await,
        Command::Completions(command) => command.run(),
        Command::Demo(command) => command.run(&session).await,
        Command::Destroy(command) => command.run(&session).await,
        Command::Doctor(command) => command.run(&session).await,
        Command::Engine(command) => command.run(&session).await,
        Command::History(command) => command.run(&session).await,
        Command::List(command) => command.run(&session).await,
        Command::Plan(command) => command.run(&session).await,
        Command::Retry(command) => command.run(&session).await,
        Command::Show(command) => command.run(&session).await,
        Command::Site(command) => command.run(&session).await,
        Command::Stores(command) => command.run(&session).await,
        Command::Submit(command) => command.run(&session).await,
        Command::Verify(command) => command.run(&session).await,
        Command::Watch(command) => command.run(&session).await,
        Command::Worker(command) => command.run(&session).await,
        Command::Workers(command) => command.run(&session).await,
    }
}

/// Services say what they do; commands speak up when something is wrong.
fn verbosity(arguments: &Arguments) -> u8 {
    let service = matches!(arguments.command, Command::Engine(_) | Command::Worker(_));
    arguments.verbose + u8::from(service)
}
