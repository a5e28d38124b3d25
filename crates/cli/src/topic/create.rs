//! `tidelog topic create`.

use std::error::Error;

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{Client, CreatedTopic, NewTopic, PerTopic};
use tidelog_types::{ErrorCode, NodeId, Str, TopicName};

use super::{Topics, key_value};
use crate::output::{Format, Outcome, count, failure, pretty};

#[derive(Args)]
pub(super) struct Create {
    #[command(flatten)]
    topics: Topics,
    /// The number of partitions [default: the broker's].
    #[arg(long, short, value_name = "COUNT")]
    partitions: Option<i32>,
    /// The number of replicas of each partition [default: the broker's].
    #[arg(long, short, value_name = "COUNT")]
    replication_factor: Option<i16>,
    /// A config of the topics; may be given several times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(Str, Str)>,
    /// The brokers of each partition, as 1:2,2:3 for two partitions of two replicas each.
    #[arg(
        long,
        value_name = "LIST",
        conflicts_with_all = ["partitions", "replication_factor"],
        value_parser = assignment
    )]
    replica_assignment: Option<Assignment>,
    /// Leave topics alone that exist already.
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether it would succeed.
    #[arg(long)]
    dry_run: bool,
}

/// The replicas of each partition.
#[derive(Clone)]
struct Assignment(Vec<Vec<NodeId>>);

fn assignment(text: &str) -> Result<Assignment, String> {
    let partitions = text.split(',').map(|partition| {
        let replicas = partition
            .split(':')
            .map(|id| id.trim().parse().map(NodeId::new));
        replicas.collect::<Result<Vec<_>, _>>()
    });
    let partitions = partitions.collect::<Result<_, _>>();
    let partitions = partitions.map_err(|_| "expected ids of brokers as in 1:2,2:3")?;
    Ok(Assignment(partitions))
}

impl Create {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let topics: Vec<_> = self
            .topics
            .names()
            .into_iter()
            .map(|name| self.topic(name))
            .collect();
        let results = client.create_topics(&topics, self.dry_run).await?;
        Ok(self.show(results, format))
    }

    fn topic(&self, name: TopicName) -> NewTopic {
        let mut topic = NewTopic::new(name);
        topic.partitions = self.partitions;
        topic.replication_factor = self.replication_factor;
        topic.configs.clone_from(&self.config);
        if let Some(Assignment(replicas)) = &self.replica_assignment {
            topic.assignments.clone_from(replicas);
        }
        topic
    }

    fn show(&self, results: PerTopic<CreatedTopic>, format: Format) -> Outcome {
        let mut lines = Vec::new();
        let (mut created, mut existing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let mut failures = Vec::new();
        for (name, result) in results {
            match result {
                Ok(topic) => {
                    lines.push(self.line(&name, &topic));
                    created.push(in_json(&name, &topic));
                }
                Err(error)
                    if self.if_not_exists
                        && error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) =>
                {
                    lines.push(format!("exists already: {name}"));
                    existing.push(json!(name.as_str()));
                }
                Err(error) => {
                    failed.push(failure("topic", &name, &error));
                    failures.push(error);
                }
            }
        }
        let said = match format {
            Format::Text => lines.join("\n"),
            Format::Json => pretty(&json!({
                "executed": !self.dry_run,
                "created": created,
                "existing": existing,
                "failed": failed,
            })),
        };
        Outcome::new(said, failures)
    }

    fn line(&self, name: &TopicName, topic: &CreatedTopic) -> String {
        let what = match self.dry_run {
            true => "would be created",
            false => "created",
        };
        let partitions = topic.partitions.or(self.partitions);
        let replicas = topic.replication_factor.or(self.replication_factor);
        match (partitions, replicas) {
            (Some(partitions), Some(replicas)) => format!(
                "{what}: {name}, {}, replication factor {replicas}",
                count(usize::try_from(partitions).unwrap_or(0), "partition")
            ),
            _ => format!("{what}: {name}"),
        }
    }
}

fn in_json(name: &TopicName, topic: &CreatedTopic) -> Value {
    json!({
        "topic": name.as_str(),
        "topicId": topic.topic_id.map(|id| id.to_string()),
        "partitions": topic.partitions,
        "replicationFactor": topic.replication_factor,
    })
}
