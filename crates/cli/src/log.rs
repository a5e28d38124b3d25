//! `tidelog log`: looks into log directories, those of Apache Kafka too, and changes nothing.

mod decode;
mod dump;
mod print;
mod verify;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what is in files of a log directory: segments, indexes, snapshots, checkpoints, whatever it has.
    Dump(dump::Arguments),
    /// Check whether the files of a log directory go together. Exits with 0 if nothing is damaged, with 1 if something
    /// is, and with 2 if the directory cannot be read.
    Verify(verify::Arguments),
}

/// What the process says when something is damaged.
const DAMAGED: u8 = 1;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let done = match &arguments.command {
        Command::Dump(arguments) => dump::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    };
    match done {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(DAMAGED)),
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&*error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
