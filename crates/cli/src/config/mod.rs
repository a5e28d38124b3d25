//! `tidelog config`: configs of topics, brokers and groups, over the wire, so that it serves every Kafka cluster.

mod change;
mod show;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidelog_client::{Client, ClientError, ConfigEntry, ConfigResource};
use tidelog_types::{GroupId, NodeId, Str, TopicName};

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
    /// List the configs that are set, with where each value comes from.
    List {
        #[command(flatten)]
        target: Target,
        /// Those, too, that nobody has set.
        #[arg(long)]
        all: bool,
    },
    /// Show configs by name: the value, where it comes from, what would hold without it, and what the config does.
    Get {
        #[command(flatten)]
        target: Target,
        /// The names.
        #[arg(value_name = "KEY", required = true)]
        names: Vec<String>,
        /// Print nothing but the values, one a line.
        #[arg(long, conflicts_with = "json")]
        value_only: bool,
    },
    /// Set configs.
    Set(change::Set),
    /// Take configs back that are set, so that the default holds again.
    Unset(change::Unset),
}

/// Whose configs.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Of a topic.
    #[arg(long, short, value_name = "TOPIC")]
    topic: Option<String>,
    /// Of a broker.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Of all brokers that have none of their own.
    #[arg(long)]
    broker_defaults: bool,
    /// Of a group.
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// Of a subscription of clients' metrics.
    #[arg(long, value_name = "NAME")]
    client_metrics: Option<String>,
    /// The levels of the loggers of a broker.
    #[arg(long, value_name = "ID")]
    broker_logger: Option<i32>,
}

impl Target {
    fn resource(&self) -> Result<ConfigResource, &'static str> {
        let topic = self.topic.as_deref().map(TopicName::from);
        let group = self.group.as_deref().map(GroupId::from);
        let metrics = self.client_metrics.as_deref().map(Str::from);
        let resource = topic
            .map(ConfigResource::Topic)
            .or_else(|| Some(ConfigResource::Broker(NodeId::new(self.broker?))))
            .or_else(|| {
                Some(ConfigResource::BrokerLogger(NodeId::new(
                    self.broker_logger?,
                )))
            })
            .or_else(|| group.map(ConfigResource::Group))
            .or_else(|| metrics.map(ConfigResource::ClientMetrics))
            .or_else(|| self.broker_defaults.then_some(ConfigResource::AllBrokers));
        resource.ok_or("a topic, a broker or a group has to be named")
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let run = async |client: &Client, format| match &arguments.command {
        Command::List { target, all } => list(client, target, *all, format).await,
        Command::Get {
            target,
            names,
            value_only,
        } => get(client, target, names, *value_only, format).await,
        Command::Set(set) => set.run(client, format).await,
        Command::Unset(unset) => unset.run(client, format).await,
    };
    arguments.common.run(run)
}

async fn list(
    client: &Client,
    target: &Target,
    all: bool,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let resource = target.resource()?;
    let mut entries = entries(client, &resource, None, false).await?;
    entries.retain(|entry| all || show::is_set(entry));
    Ok(show::list(&resource, &entries, format).into())
}

async fn get(
    client: &Client,
    target: &Target,
    names: &[String],
    value_only: bool,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let resource = target.resource()?;
    let wanted: Vec<_> = names.iter().map(|name| Str::from(name.as_str())).collect();
    let known = entries(client, &resource, Some(&wanted), true).await?;
    let mut found = Vec::new();
    for name in &wanted {
        let entry = known.iter().find(|entry| entry.name == *name);
        found.push(entry.ok_or_else(|| format!("{resource} has no config {name}"))?);
    }
    Ok(match value_only {
        true => show::values(&found),
        false => show::details(&resource, &found, format),
    }
    .into())
}

/// The configs of a resource, by name.
async fn entries(
    client: &Client,
    resource: &ConfigResource,
    names: Option<&[Str]>,
    documentation: bool,
) -> Result<Vec<ConfigEntry>, ClientError> {
    let resources = std::slice::from_ref(resource);
    let described = client
        .describe_configs(resources, names, documentation)
        .await?;
    let mut entries = described
        .into_values()
        .next()
        .unwrap_or_else(|| Ok(Vec::new()))?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
