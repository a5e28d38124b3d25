//! `tidelog topic`: topics of a cluster, over the wire, so that it serves every Kafka cluster.

mod alter;
mod create;
mod delete;
mod delete_records;
mod describe;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tidelog_client::{Client, TopicListing};
use tidelog_types::{Str, TopicName};

use crate::connect::Common;
use crate::output::{Format, Outcome, pretty, table};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// List the topics of the cluster.
    List {
        /// Those, too, in which brokers keep their own records.
        #[arg(long)]
        internal: bool,
    },
    /// Create topics.
    Create(create::Create),
    /// Show partitions, leaders and replicas of topics, and the configs that are set for them.
    Describe(describe::Describe),
    /// Give topics more partitions, more or fewer replicas, or other configs.
    Alter(alter::Alter),
    /// Delete topics with their records.
    Delete(delete::Delete),
    /// Delete records from the front of partitions.
    DeleteRecords(delete_records::DeleteRecords),
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments
        .common
        .run(async |client, format| match &arguments.command {
            Command::List { internal } => list(client, *internal, format).await,
            Command::Create(create) => create.run(client, format).await,
            Command::Describe(describe) => describe.run(client, format).await,
            Command::Alter(alter) => alter.run(client, format).await,
            Command::Delete(delete) => delete.run(client, format).await,
            Command::DeleteRecords(delete) => delete.run(client, format).await,
        })
}

/// Which topics a command is about.
#[derive(Args)]
struct Topics {
    /// The topics.
    #[arg(value_name = "TOPIC", required_unless_present = "topic")]
    names: Vec<String>,
    /// A topic, as with Kafka's own tools; may be given several times.
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
}

impl Topics {
    /// Each of them once.
    fn names(&self) -> Vec<TopicName> {
        let names = self.names.iter().chain(&self.topic);
        let mut names: Vec<_> = names.map(|name| TopicName::from(name.as_str())).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// `KEY=VALUE`, for the parser of the command line.
pub(crate) fn key_value(text: &str) -> Result<(Str, Str), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((Str::from(key.trim()), Str::from(value.trim())))
}

async fn list(client: &Client, internal: bool, format: Format) -> Result<Outcome, Box<dyn Error>> {
    let mut topics = client.list_topics().await?;
    topics.retain(|topic| internal || !topic.is_internal);
    Ok(show_list(&topics, format).into())
}

fn show_list(topics: &[TopicListing], format: Format) -> String {
    if format == Format::Json {
        let topics = topics.iter().map(|topic| {
            json!({
                "topic": topic.name.as_str(),
                "topicId": topic.topic_id.map(|id| id.to_string()),
                "internal": topic.is_internal,
                "partitions": topic.partitions,
                "replicationFactor": topic.replication_factor,
            })
        });
        return pretty(&topics.collect());
    }
    if topics.is_empty() {
        return "there are no topics".to_owned();
    }
    let rows = topics.iter().map(|topic| {
        vec![
            topic.name.to_string(),
            topic.partitions.to_string(),
            topic.replication_factor.to_string(),
        ]
    });
    table(&["TOPIC", "PARTITIONS", "REPLICATION FACTOR"], rows)
}
