//! The topic that is measured, on each cluster.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use tidelog_client::{Client, NewTopic, TopicDescription};
use tidelog_types::{ErrorCode, PartitionIndex, Str, TopicName, TopicPartition};

use super::round::Round;
use crate::topic::key_value;

/// How long a new topic may take until all its partitions have leaders.
const LED_WITHIN: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is measured, and how often.
#[derive(Args, Clone)]
#[command(next_help_heading = "Topic and clusters")]
pub(super) struct Target {
    /// The topic. It is made if it is not there.
    #[arg(long, short, default_value = "tidelog-bench")]
    topic: String,
    /// How many partitions a new topic has.
    #[arg(long, short, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// How many replicas each partition of a new topic has [default: the broker's].
    #[arg(long, short, value_name = "COUNT")]
    replication_factor: Option<i16>,
    /// A config of a new topic; may be given several times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(Str, Str)>,
    /// Delete the topic in the end, if it was made here.
    #[arg(long)]
    remove: bool,
    /// Measure another cluster, too, in turns with the first; may be given several times.
    #[arg(long, value_name = "LIST")]
    pub(super) compare: Vec<String>,
    /// How many rounds each cluster has [default: 1, or 3 to compare].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
}

impl Target {
    /// The name of the topic.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }
}

/// A cluster, and what was measured there.
pub(super) struct Side {
    pub(super) client: Client,
    pub(super) address: String,
    pub(super) partitions: Vec<TopicPartition>,
    /// Whether the topic was made here.
    pub(super) is_new: bool,
    pub(super) rounds: Vec<Round>,
}

impl Side {
    /// Makes the topic, if it is not there.
    pub(super) async fn prepare(client: Client, target: &Target) -> Result<Self, Box<dyn Error>> {
        let name = TopicName::from(target.topic());
        let found = describe(&client, &name).await?;
        let is_new = found.is_none();
        let described = match found {
            Some(described) => described,
            None => create(&client, target, &name).await?,
        };
        let indexes = described.partitions.iter().map(|it| it.partition);
        let partition = |index: PartitionIndex| TopicPartition::new(name.clone(), index);
        let address = client.any().await?.address().to_owned();
        Ok(Self {
            client,
            address,
            partitions: indexes.map(partition).collect(),
            is_new,
            rounds: Vec::new(),
        })
    }

    /// Deletes the topic, if that is wanted and it was made here.
    pub(super) async fn clean_up(&self, target: &Target) -> Result<(), Box<dyn Error>> {
        if !target.remove || !self.is_new {
            return Ok(());
        }
        let topics = [target.topic().into()];
        for (_, deleted) in self.client.delete_topics(&topics).await? {
            deleted?;
        }
        Ok(())
    }
}

/// The topic, if it is there.
async fn describe(
    client: &Client,
    name: &TopicName,
) -> Result<Option<TopicDescription>, Box<dyn Error>> {
    let described = client.describe_topics(Some(std::slice::from_ref(name)));
    match described.await?.remove(name) {
        Some(Ok(described)) => Ok(Some(described)),
        Some(Err(error)) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(None),
        Some(Err(error)) => Err(error.into()),
        None => Ok(None),
    }
}

/// Makes the topic, and waits until it has leaders.
async fn create(
    client: &Client,
    target: &Target,
    name: &TopicName,
) -> Result<TopicDescription, Box<dyn Error>> {
    let mut topic = NewTopic::new(name.clone()).partitions(target.partitions);
    topic.replication_factor = target.replication_factor;
    topic.configs.clone_from(&target.config);
    for (_, created) in client.create_topics(&[topic], false).await? {
        created?;
    }
    let until = Instant::now() + LED_WITHIN;
    loop {
        if let Some(described) = describe(client, name).await? {
            let mut partitions = described.partitions.iter();
            let is_whole = described.partitions.len() as i32 == target.partitions;
            if is_whole && partitions.all(|it| it.leader.is_some()) {
                return Ok(described);
            }
        }
        if Instant::now() > until {
            return Err(format!("topic {name} was made, and has no leaders").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
