//! The command line of the project's own commands: `cargo xtask --help`.

use anyhow::Result;
use clap::Parser;
use std::process::{ExitCode, ExitStatus};
use xtask::{
    commands::{bench, chaos, demo, services, simulate, test},
    verify,
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
    /// The services that the tests need: RabbitMQ, PostgreSQL, S3.
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
    match run(Command::parse()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
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
