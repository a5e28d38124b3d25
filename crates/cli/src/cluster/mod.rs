//! `tidelog cluster`: the nodes of a cluster, over the wire, so that it serves every Kafka cluster.

mod describe;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::connect::Common;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Show the nodes of the cluster, the levels of its features, and the quorum that keeps its metadata. On the port of a
    /// controller it shows the controllers.
    Describe,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let common = &arguments.common;
    match &arguments.command {
        Command::Describe => common.run(describe::run),
    }
}
