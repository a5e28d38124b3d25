//! `tidelog topic alter`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::{
    Client, ClientError, ConfigChange, ConfigChanges, ConfigResource, NewPartitions, PerTopic,
    TopicDescription,
};
use tidelog_types::{ErrorCode, Str, TopicName, TopicPartition};

use super::key_value;
use crate::output::{Format, Outcome, count as counted, failure, pretty};
use crate::replicas::{self, Brokers, Move, Placed, moves_in_json, moves_in_text};

#[derive(Args)]
pub(super) struct Alter {
    #[command(flatten)]
    topics: super::Topics,
    #[command(flatten)]
    changes: Changes,
    /// Pass over topics that do not exist.
    #[arg(long)]
    if_exists: bool,
    /// Only say whether it would succeed.
    #[arg(long)]
    dry_run: bool,
}

/// What is to be changed.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// How many partitions the topics shall have; records with a key go to other partitions from then on.
    #[arg(long, short, value_name = "COUNT")]
    partitions: Option<i32>,
    /// How many replicas each partition shall have; the cluster then moves them, while it goes on serving. Partitions are
    /// added in a command of its own.
    #[arg(
        long,
        short,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..),
        conflicts_with = "partitions"
    )]
    replication_factor: Option<u16>,
    /// A config to be set; may be given several times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(Str, Str)>,
    /// A config to be taken back; may be given several times.
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
}

impl Changes {
    fn configs(&self) -> BTreeMap<Str, ConfigChange> {
        let set = self.config.iter().cloned();
        let set = set.map(|(name, value)| (name, ConfigChange::Set(value)));
        let unset = self.delete_config.iter();
        let unset = unset.map(|name| (Str::from(name.as_str()), ConfigChange::Unset));
        set.chain(unset).collect()
    }

    /// In words.
    fn tell(&self) -> String {
        let partitions = self.partitions.map(|count| format!("partitions {count}"));
        let replicas = self.replication_factor;
        let replicas = replicas.map(|count| format!("replication factor {count}"));
        let set = self.config.iter();
        let set = set.map(|(name, value)| format!("{name}={value}"));
        let unset = self
            .delete_config
            .iter()
            .map(|name| format!("{name} unset"));
        let numbers = partitions.into_iter().chain(replicas);
        numbers
            .chain(set)
            .chain(unset)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Makes the changes, or only has them checked; the topics at which a broker takes offence are left out of the rest.
    async fn make(
        &self,
        client: &Client,
        names: &mut BTreeSet<TopicName>,
        validate_only: bool,
    ) -> Result<Vec<(TopicName, ClientError)>, ClientError> {
        let mut refused = Vec::new();
        let configs = self.configs();
        if !configs.is_empty() {
            let changes = names.iter().map(|name| {
                let topic = ConfigResource::Topic(name.clone());
                (topic, configs.clone())
            });
            let changes: ConfigChanges = changes.collect();
            for (resource, result) in client.alter_configs(&changes, validate_only).await? {
                if let (ConfigResource::Topic(name), Err(error)) = (resource, result) {
                    names.remove(&name);
                    refused.push((name, error));
                }
            }
        }
        if let Some(count) = self.partitions {
            let grown = names.iter().map(|name| NewPartitions {
                topic: name.clone(),
                count,
                assignments: None,
            });
            let grown: Vec<_> = grown.collect();
            for (name, result) in client.create_partitions(&grown, validate_only).await? {
                if let Err(error) = result {
                    names.remove(&name);
                    refused.push((name, error));
                }
            }
        }
        Ok(refused)
    }
}

/// The same as [`replicas::brokers`]. It is an error if there are fewer brokers than replicas are wanted.
async fn brokers(
    client: &Client,
    count: usize,
) -> Result<(Brokers, PerTopic<TopicDescription>), Box<dyn Error>> {
    let (brokers, topics) = replicas::brokers(client).await?;
    if brokers.len() < count {
        let (wanted, there) = (counted(count, "replica"), counted(brokers.len(), "broker"));
        return Err(format!("no room for {wanted} of each partition: {there} in service").into());
    }
    Ok((brokers, topics))
}

/// Moves replicas of these topics so that each partition has so many, or only says which; the topics at which a broker takes
/// offence are told.
async fn replicate(
    client: &Client,
    names: &mut BTreeSet<TopicName>,
    count: usize,
    dry_run: bool,
) -> Result<(Vec<Move>, Vec<(TopicName, ClientError)>), Box<dyn Error>> {
    let (mut brokers, topics) = brokers(client, count).await?;
    let (mut moves, mut refused) = (Vec::new(), Vec::new());
    for name in names.clone() {
        let Some(Ok(topic)) = topics.get(&name) else {
            names.remove(&name);
            let unknown = ClientError::Refused {
                subject: format!("topic {name}"),
                code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                message: None,
            };
            refused.push((name, unknown));
            continue;
        };
        for partition in &topic.partitions {
            let placed = Placed {
                replicas: &partition.replicas,
                isr: &partition.isr,
                leader: partition.leader,
            };
            let to = brokers.place(&placed, count);
            if to != partition.replicas {
                moves.push(Move {
                    partition: TopicPartition::new(name.clone(), partition.partition),
                    from: partition.replicas.clone(),
                    to,
                });
            }
        }
    }
    if !dry_run {
        for (partition, error) in replicas::begin(client, &mut moves).await? {
            names.remove(&partition.topic);
            refused.push((partition.topic, error));
        }
    }
    Ok((moves, refused))
}

impl Alter {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let mut names: BTreeSet<_> = self.topics.names().into_iter().collect();
        let replicas = self.changes.replication_factor.map(usize::from);
        if let Some(count) = replicas {
            brokers(client, count).await?;
        }
        // First all is checked, so that no topic gets the one change without the other.
        let mut refused = self.changes.make(client, &mut names, true).await?;
        if !self.dry_run && !names.is_empty() {
            refused.extend(self.changes.make(client, &mut names, false).await?);
        }
        let mut moves = Vec::new();
        if let Some(count) = replicas {
            let done = replicate(client, &mut names, count, self.dry_run).await?;
            moves = done.0;
            refused.extend(done.1);
        }
        let is_missing = |(_, error): &(TopicName, ClientError)| {
            self.if_exists && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let (missing, failed): (Vec<_>, Vec<_>) = refused.into_iter().partition(is_missing);
        let said = match format {
            Format::Text => {
                let what = match self.dry_run {
                    true => "would be altered",
                    false => "altered",
                };
                let changes = self.changes.tell();
                let altered = names
                    .iter()
                    .map(|name| format!("{what}: {name}, {changes}"));
                let missing = missing.iter();
                let missing = missing.map(|(name, _)| format!("does not exist: {name}"));
                let lines: Vec<_> = altered.chain(missing).collect();
                match moves.is_empty() {
                    true => lines.join("\n"),
                    false => format!("{}\n\n{}", lines.join("\n"), moves_in_text(&moves)),
                }
            }
            Format::Json => {
                let altered: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                let missing: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
                let failed = failed.iter();
                let failed = failed.map(|(name, error)| failure("topic", name, error));
                pretty(&json!({
                    "executed": !self.dry_run,
                    "altered": altered,
                    "missing": missing,
                    "replicas": moves_in_json(&moves),
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        let failures = failed.into_iter().map(|(_, error)| error);
        Ok(Outcome::new(said, failures.collect()))
    }
}
