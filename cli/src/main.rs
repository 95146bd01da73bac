//! `longshore`: one binary for people, engines and workers. It reads the command line, runs one subcommand,
//! and turns how that ended into an exit code and, on stderr, into words.

mod arguments;
mod ask;
mod command;
mod embedded;
mod ended;
mod logging;
mod presence;
mod print;
mod session;
mod settings;
mod shutdown;
mod wait;

use ended::Ended;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match arguments::Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no mistakes; clap prints each to its place.
            let _ = error.print();
            return if error.use_stderr() { Ended::usage("").code() } else { ExitCode::SUCCESS };
        }
    };
    let json = arguments.json;
    let ended = tokio::runtime::Runtime::new()
        .map_err(|error| Ended::Broken(anyhow::Error::new(error).context("start the runtime")))
        .and_then(|runtime| {
            let ended = runtime.block_on(command::run(arguments));
            // What is left are reads of stdin and the like, which nobody waits for.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            ended.print(json);
            ended.code()
        }
    }
}
