//! `tidelog group`: consumer groups, over the wire, so that it serves every Kafka cluster.

mod explain;
mod offsets;
mod show;

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidelog_client::{Client, GroupDescription};
use tidelog_types::{GroupId, Str};

use crate::connect::Common;
use crate::output::{Format, Outcome};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// List the groups of the cluster.
    List {
        /// Only groups in this state, such as Stable or Empty; may be given several times.
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
        /// Only groups of this type, such as classic or consumer; may be given several times.
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
    },
    /// Show the members of a group, what it has committed, and how far it is behind.
    Describe {
        /// The group.
        group: String,
    },
    /// Show why a group rebalanced: who came and went, how long each phase took, for whom it waited, what moved. Knows as much
    /// as the broker that coordinates the group remembers; Apache Kafka's brokers do not.
    Explain {
        /// The group.
        group: String,
    },
    /// Set the committed offsets of a group that has no members. Shows what it would do, unless --execute is given.
    ResetOffsets(offsets::Reset),
    /// Delete committed offsets of a group, of topics to which no member subscribes.
    DeleteOffsets(offsets::Delete),
    /// Delete groups that have no members, with their offsets.
    Delete {
        /// The groups.
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments
        .common
        .run(async |client, format| serve(&arguments.command, client, format).await)
}

async fn serve(
    command: &Command,
    client: &Client,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let said = match command {
        Command::List { state, types } => {
            let words =
                |words: &[String]| words.iter().map(|word| Str::from(word.as_str())).collect();
            let states: Vec<Str> = words(state);
            let types: Vec<Str> = words(types);
            let groups = client.list_groups(&states, &types).await?;
            show::groups(&groups, format)
        }
        Command::Describe { group } => {
            let group = GroupId::from(group.as_str());
            let described = existing(client, &group).await?;
            let lags = offsets::lags(client, &described).await?;
            show::group(&described, &lags, format)
        }
        Command::Explain { group } => {
            let group = GroupId::from(group.as_str());
            existing(client, &group).await?;
            let rebalances = client.explain_group(&group).await?.ok_or_else(|| {
                format!("the broker that coordinates group {group} does not remember rebalances")
            })?;
            explain::rebalances(&group, &rebalances, format)?
        }
        Command::ResetOffsets(reset) => reset.run(client, format).await?,
        Command::DeleteOffsets(delete) => delete.run(client, format).await?,
        Command::Delete { groups } => {
            // The same group twice would be an error the second time.
            let groups: BTreeSet<_> = groups
                .iter()
                .map(|group| GroupId::from(group.as_str()))
                .collect();
            for group in &groups {
                client.delete_group(group).await?;
            }
            let groups: Vec<_> = groups.into_iter().collect();
            show::deleted(&groups, format)
        }
    };
    Ok(said.into())
}

/// A group that has to exist.
async fn existing(client: &Client, group: &GroupId) -> Result<GroupDescription, Box<dyn Error>> {
    let described = client.describe_group(group).await?;
    Ok(described.ok_or_else(|| format!("there is no group {group}"))?)
}
