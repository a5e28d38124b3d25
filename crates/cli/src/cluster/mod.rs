//! `tidelog cluster`: the nodes of a cluster, over the wire, so that it serves every Kafka cluster.

mod control;
mod describe;
mod drain;
mod elect;
mod log_dirs;
mod quorum;
mod reassign;
mod unregister;
mod up;

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
    /// Have a cluster of `tidelog cluster up` do something, from another terminal than its own.
    Ctl(control::Ctl),
    /// Show the nodes of the cluster, the levels of its features, and the quorum that keeps its metadata. On the port of a
    /// controller it shows the controllers.
    Describe,
    /// Move everything away from a broker, so that it can be taken out of the cluster.
    Drain(drain::Drain),
    /// Elect leaders of partitions: the preferred replicas, or where none is left in sync any that is there.
    Elect(elect::Elect),
    /// Show the log directories of the brokers, and what lies in them.
    LogDirs(log_dirs::LogDirs),
    /// Show the quorum that keeps the metadata, and change who votes in it.
    Quorum(quorum::Quorum),
    /// Give partitions other replicas, show how far that has come, or stop it.
    Reassign(reassign::Reassign),
    /// Have the cluster forget a broker that will not come back.
    Unregister(unregister::Unregister),
    /// Run a whole cluster in this process, to try things out on: its nodes can be killed and cut off from the prompt.
    Up(up::Up),
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let common = &arguments.common;
    let local = matches!(arguments.command, Command::Ctl(_) | Command::Up(_));
    if local && common.names_a_cluster() {
        return Err(
            "`cluster up` and `cluster ctl` need no connection to a cluster; leave out its flags"
                .into(),
        );
    }
    match &arguments.command {
        Command::Ctl(ctl) => ctl.run(common.format()),
        Command::Describe => common.run(describe::run),
        Command::Drain(drain) => common.run(async |client, format| drain.run(client, format).await),
        Command::Elect(elect) => common.run(async |client, format| elect.run(client, format).await),
        Command::LogDirs(dirs) => common.run(async |client, format| dirs.run(client, format).await),
        Command::Quorum(quorum) => {
            common.run(async |client, format| quorum.run(client, format).await)
        }
        Command::Reassign(reassign) => {
            common.run(async |client, format| reassign.run(client, format).await)
        }
        Command::Unregister(unregister) => {
            common.run(async |client, format| unregister.run(client, format).await)
        }
        Command::Up(up) => up.run(),
    }
}
