//! The `tidelog` command: one file for each subcommand, all of them thin.

mod broker;
mod format;
mod group;
mod log;
mod protocol;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An event-streaming broker that speaks the Apache Kafka protocol.
#[derive(Parser)]
#[command(name = "tidelog", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker until SIGTERM or SIGINT.
    Broker(broker::Arguments),
    /// Format the log directories of a node, as kafka-storage does. A broker does it by itself at its first start.
    Format(format::Arguments),
    /// Look after the consumer groups of a cluster.
    Group(group::Arguments),
    /// Look into log directories, also those of Apache Kafka.
    Log(log::Arguments),
    /// Show which APIs and versions the protocol has, and its error codes.
    Protocol(protocol::Arguments),
}

/// What the process says when it could not do as told: the configuration, the disk or a port is to be mended first.
const CANNOT: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Broker(arguments) => broker::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Format(arguments) => format::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Group(arguments) => group::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Log(arguments) => log::run(&arguments),
        Command::Protocol(arguments) => protocol::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(CANNOT)
        }
    }
}

/// Writes one line to standard error.
#[allow(clippy::print_stderr, reason = "this is what the user reads")]
fn complain(text: &str) {
    eprintln!("tidelog: {text}");
}

/// Writes one line to standard output.
#[allow(clippy::print_stdout, reason = "this is what the user reads")]
fn say(text: &str) {
    println!("{text}");
}
