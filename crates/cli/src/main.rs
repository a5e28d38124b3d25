//! The `tidelog` command: one file for each subcommand, all of them thin.

mod acl;
mod bench;
mod broker;
mod bytes;
mod cluster;
mod completions;
mod config;
mod connect;
mod consume;
mod feature;
mod format;
mod group;
mod log;
mod man;
mod output;
mod partitions;
mod produce;
mod profile;
mod protocol;
mod quota;
mod replicas;
mod security;
mod service;
mod ship;
mod throttle;
mod topic;
mod user;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// An event-streaming broker that speaks the Apache Kafka protocol.
#[derive(Parser)]
#[command(name = "tidelog", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look after who may do what: the ACLs of a cluster.
    Acl(acl::Arguments),
    /// Measure how fast a cluster takes and gives records, and how soon; also of two clusters in turns.
    Bench(bench::Arguments),
    /// Run a broker until SIGTERM or SIGINT.
    Broker(broker::Arguments),
    /// Look after the nodes of a cluster: who there is, who votes, who leads, and who has which replicas.
    Cluster(cluster::Arguments),
    /// Print a script by which a shell completes the command.
    Completions(completions::Arguments),
    /// Show and change the configs of topics, brokers and groups.
    Config(config::Arguments),
    /// Print the records of a topic.
    Consume(consume::Arguments),
    /// Show and change the levels of a cluster's features.
    Feature(feature::Arguments),
    /// Format the log directories of a node, as kafka-storage does. A broker does it by itself at its first start.
    Format(format::Arguments),
    /// Look after the consumer groups of a cluster.
    Group(group::Arguments),
    /// Look into log directories, also those of Apache Kafka.
    Log(log::Arguments),
    /// Write the manual pages.
    Man(man::Arguments),
    /// Write records into a topic.
    Produce(produce::Arguments),
    /// Show which APIs and versions the protocol has, and its error codes.
    Protocol(protocol::Arguments),
    /// Show and change how much clients may ask of a cluster.
    Quota(quota::Arguments),
    /// Write what stands in files, and what is added to them, into topics: aggregation of logs.
    Ship(ship::Arguments),
    /// Create, show, change and delete topics.
    Topic(topic::Arguments),
    /// Look after users and their passwords, as SCRAM has them.
    User(user::Arguments),
}

/// What the process says when it could not do as told: the configuration, the disk or a port is to be mended first.
const CANNOT: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Acl(arguments) => acl::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Broker(arguments) => broker::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Config(arguments) => config::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::Feature(arguments) => feature::run(&arguments),
        Command::Format(arguments) => format::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Group(arguments) => group::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Man(arguments) => man::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Protocol(arguments) => protocol::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Quota(arguments) => quota::run(&arguments),
        Command::Ship(arguments) => ship::run(&arguments),
        Command::Topic(arguments) => topic::run(&arguments),
        Command::User(arguments) => user::run(&arguments),
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

/// Writes one line to standard output. Whoever reads it may have seen enough.
fn say(text: &str) {
    let said = writeln!(std::io::stdout(), "{text}");
    if said.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// The command line itself, for what describes it.
fn command() -> clap::Command {
    Cli::command()
}
