//! The command line of the project's own commands: `cargo xtask --help`.

use anyhow::Result;
use clap::Parser;
use std::process::{ExitCode, ExitStatus};
use xtask::{
    commands::{bench, chaos, demo, services, simulate, test},
    output, verify,
};

/// The project's own commands. What they need on this machine they install, and say so.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Measure the work beside other tools, and beside what the machine can do.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Kill and stop engines, workers, broker and database at random under load, then read everything back.
    Chaos(chaos::Chaos),
    /// Run the main job on this machine, on a disk image made for it or on your own.
    Demo(demo::Demo),
    /// The services that the tests need: RabbitMQ, PostgreSQL, S3, Swift.
    #[command(subcommand)]
    Services(services::Action),
    /// Run the engine under a seeded scheduler with virtual time: a million schedules, or as you say.
    Simulate(simulate::Simulate),
    /// Start the services, run every test, stop the services.
    Test(test::Test),
    /// Check format, lints, docs, house style, licences and dependencies. Changes nothing.
    Verify,
}

fn main() -> ExitCode {
    run(Command::parse()).unwrap_or_else(|e| output::failed(&e))
}

fn run(command: Command) -> Result<ExitCode> {
    let status = match command {
        Command::Bench(what) => bench::run(what)?,
        Command::Chaos(arguments) => Some(chaos::chaos(arguments)?),
        Command::Demo(arguments) => Some(demo::demo(arguments)?),
        Command::Services(action) => services::run(action)?,
        Command::Simulate(arguments) => Some(simulate::simulate(arguments)?),
        Command::Test(arguments) => Some(test::test(arguments)?),
        Command::Verify => {
            verify::verify()?;
            None
        }
    };
    Ok(status.map_or(ExitCode::SUCCESS, exit_code))
}

/// The command's own code; for one that a signal ended, 128 and more, as in a shell.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        Command::try_parse_from(std::iter::once("xtask").chain(line.split(' ')))
    }

    #[test]
    fn numbers_with_which_nothing_is_tried_or_nothing_ends_are_refused() {
        for line in [
            "bench data --size=0",
            "bench data --size=0.01",
            "bench data --size=-1",
            "bench data --size=nan",
            "bench data --size=inf",
            "bench data --size=four",
            "bench engine --alone=0",
            "bench engine --engines=0",
            "bench engine --operations=0",
            "bench engine --operations=18446744073709551615",
            "bench engine --queue-depth=0",
            "bench growth --operations=2000",
            "chaos --kills=0",
        ] {
            let error = parsed(line).expect_err(line);
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{line}: {error}");
        }
    }

    #[test]
    fn the_least_that_can_be_tried_is_taken() {
        for line in [
            "bench data --size=0.015625",
            "bench engine --alone=1 --engines=1 --operations=1 --queue-depth=1 --embedded",
            "bench growth --operations=2001",
            "chaos --kills=1 --seed=18446744073709551615",
        ] {
            parsed(line).expect(line);
        }
    }
}
