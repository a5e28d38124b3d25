//! `tidelog topic describe`.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{
    Client, ClientError, ConfigEntry, ConfigResource, ConfigSource, OffsetSpec,
    PartitionDescription, Reassignment, TopicDescription,
};
use tidelog_types::{ErrorCode, NodeId, Offset, PartitionIndex, TopicName, TopicPartition};
use tokio::time::timeout;

use crate::output::{Format, Outcome, code_name, count, ids, nothing, pretty, table};
use crate::partitions::{Found, at};

/// The config that says how many replicas have to be in sync.
const MIN_ISR: &str = "min.insync.replicas";
/// How long to wait for which replicas are moving.
const MOVES_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Describe {
    /// The topics [default: all].
    #[arg(value_name = "TOPIC")]
    names: Vec<String>,
    /// A topic, as with Kafka's own tools; may be given several times.
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Among all, those in which brokers keep their own records.
    #[arg(long)]
    internal: bool,
    /// Pass over topics that do not exist.
    #[arg(long)]
    if_exists: bool,
    /// Show where partitions begin and end, and how many offsets lie between.
    #[arg(long)]
    offsets: bool,
    /// Only topics for which configs are set.
    #[arg(long, alias = "topics-with-overrides")]
    with_overrides: bool,
    #[command(flatten)]
    trouble: Trouble,
}

/// Which partitions are shown, if not all: those in one of these states.
#[derive(Args)]
struct Trouble {
    /// Only partitions with replicas that are not in sync.
    #[arg(long, alias = "under-replicated-partitions")]
    under_replicated: bool,
    /// Only partitions without a leader.
    #[arg(long, alias = "unavailable-partitions")]
    unavailable: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas demands.
    #[arg(long, alias = "under-min-isr-partitions")]
    under_min_isr: bool,
    /// Only partitions with just as many replicas in sync as min.insync.replicas demands.
    #[arg(long, alias = "at-min-isr-partitions")]
    at_min_isr: bool,
}

impl Trouble {
    const fn is_asked_for(&self) -> bool {
        self.under_replicated || self.unavailable || self.under_min_isr || self.at_min_isr
    }

    /// Whether a partition is in one of the states. Replicas that are still to come are not missed.
    fn shows(
        &self,
        partition: &PartitionDescription,
        moving: Option<&Reassignment>,
        min_isr: Option<usize>,
    ) -> bool {
        let in_sync = partition.isr.len();
        let to_come = moving.map_or(0, |moving| moving.adding_replicas.len());
        (self.under_replicated && in_sync < partition.replicas.len().saturating_sub(to_come))
            || (self.unavailable && partition.leader.is_none())
            || (self.under_min_isr && min_isr.is_some_and(|min| in_sync < min))
            || (self.at_min_isr && min_isr == Some(in_sync))
    }
}

/// A topic with what is said of it.
struct Shown {
    topic: TopicDescription,
    /// What is set for it.
    configs: Vec<ConfigEntry>,
    min_isr: Option<usize>,
    /// How many partitions there are, shown or not.
    partitions: usize,
    /// Those that are changing their replicas.
    moving: BTreeMap<PartitionIndex, Reassignment>,
}

/// Where partitions begin, and where they end.
#[derive(Default)]
struct Offsets {
    first: Found,
    last: Found,
}

impl Describe {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let (topics, failures) = self.topics(client).await?;
        let mut shown = with_surroundings(client, topics).await?;
        shown.retain(|shown| !self.with_overrides || !shown.configs.is_empty());
        if self.trouble.is_asked_for() {
            for shown in &mut shown {
                let min_isr = shown.min_isr;
                let moving = &shown.moving;
                shown.topic.partitions.retain(|partition| {
                    let moving = moving.get(&partition.partition);
                    self.trouble.shows(partition, moving, min_isr)
                });
            }
            shown.retain(|shown| !shown.topic.partitions.is_empty());
        }
        let offsets = match self.offsets {
            true => Some(offsets(client, &shown).await?),
            false => None,
        };
        let said = match format {
            Format::Json => {
                let topics = shown.iter().map(|shown| in_json(shown, offsets.as_ref()));
                pretty(&topics.collect())
            }
            Format::Text if shown.is_empty() && failures.is_empty() => {
                match self.trouble.is_asked_for() {
                    true => "there are no such partitions".to_owned(),
                    false => "there are no such topics".to_owned(),
                }
            }
            Format::Text => {
                let topics = shown.iter().map(|shown| in_text(shown, offsets.as_ref()));
                topics.collect::<Vec<_>>().join("\n\n")
            }
        };
        Ok(Outcome::new(said, failures))
    }

    async fn topics(
        &self,
        client: &Client,
    ) -> Result<(Vec<TopicDescription>, Vec<ClientError>), ClientError> {
        let names = self.names.iter().chain(&self.topic);
        let names: Vec<_> = names.map(|name| TopicName::from(name.as_str())).collect();
        let wanted = (!names.is_empty()).then_some(&names[..]);
        let (mut topics, mut failures) = (Vec::new(), Vec::new());
        for (_, described) in client.describe_topics(wanted).await? {
            match described {
                Ok(topic) if wanted.is_none() && topic.is_internal && !self.internal => {}
                Ok(topic) => topics.push(topic),
                Err(error)
                    if self.if_exists
                        && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {}
                Err(error) => failures.push(error),
            }
        }
        Ok((topics, failures))
    }
}

async fn with_surroundings(
    client: &Client,
    topics: Vec<TopicDescription>,
) -> Result<Vec<Shown>, ClientError> {
    let resources = topics.iter();
    let resources: Vec<_> = resources
        .map(|topic| ConfigResource::Topic(topic.name.clone()))
        .collect();
    let mut configs = match resources.is_empty() {
        true => BTreeMap::new(),
        false => client.describe_configs(&resources, None, false).await?,
    };
    // A cluster that does not tell is shown without, soon: whoever asks may be looking for why it has no controller.
    let moving = timeout(MOVES_TIMEOUT, client.list_reassignments(None)).await;
    let mut moving = moving.ok().and_then(Result::ok).unwrap_or_default();
    let mut shown = Vec::new();
    for (topic, resource) in topics.into_iter().zip(resources) {
        // A topic that was deleted in between, or whose configs may not be seen, is shown without.
        let configs = configs.remove(&resource).and_then(Result::ok);
        let mut configs = configs.unwrap_or_default();
        let min_isr = configs.iter().find(|entry| entry.name == MIN_ISR);
        let min_isr = min_isr.and_then(|entry| entry.value.as_deref()?.parse().ok());
        configs.retain(|entry| entry.source == ConfigSource::Topic);
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        let of_topic = moving.extract_if(.., |partition, _| partition.topic == topic.name);
        shown.push(Shown {
            moving: of_topic.map(|(p, moving)| (p.partition, moving)).collect(),
            partitions: topic.partitions.len(),
            topic,
            configs,
            min_isr,
        });
    }
    Ok(shown)
}

async fn offsets(client: &Client, shown: &[Shown]) -> Result<Offsets, Box<dyn Error>> {
    let partitions = || {
        shown.iter().flat_map(|shown| {
            let partitions = shown.topic.partitions.iter();
            partitions.map(|p| TopicPartition::new(shown.topic.name.clone(), p.partition))
        })
    };
    Ok(Offsets {
        first: at(client, partitions(), OffsetSpec::Earliest).await?,
        last: at(client, partitions(), OffsetSpec::Latest).await?,
    })
}

impl Offsets {
    /// Where a partition begins and ends, or why nobody knows.
    fn of(
        &self,
        topic: &TopicName,
        partition: &PartitionDescription,
    ) -> Result<(Offset, Offset), ErrorCode> {
        let partition = TopicPartition::new(topic.clone(), partition.partition);
        let offset = |found: &Found| match found.get(&partition) {
            Some(Ok(at)) => Ok(at.offset.unwrap_or(Offset::NONE)),
            Some(Err(code)) => Err(*code),
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        Ok((offset(&self.first)?, offset(&self.last)?))
    }
}

fn in_text(shown: &Shown, offsets: Option<&Offsets>) -> String {
    let topic = &shown.topic;
    let mut text = format!("topic {}: ", topic.name);
    if topic.partitions.len() < shown.partitions {
        text.push_str(&format!("{} of ", topic.partitions.len()));
    }
    text.push_str(&count(shown.partitions, "partition"));
    if let Some(id) = topic.topic_id {
        text.push_str(&format!(", id {id}"));
    }
    if topic.is_internal {
        text.push_str(", internal");
    }
    for config in &shown.configs {
        let value = config.value.as_deref().unwrap_or("(secret)");
        text.push_str(&format!("\n  {}={value}", config.name));
    }
    let has_elr = topic.partitions.iter().any(|partition| {
        let eligible = partition.eligible_leader_replicas.iter();
        let last = partition.last_known_leaders.iter();
        eligible.chain(last).any(|ids| !ids.is_empty())
    });
    let mut heads = vec![
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "IN SYNC",
        "OFFLINE",
    ];
    if has_elr {
        heads.extend(["ELIGIBLE", "LAST KNOWN"]);
    }
    if !shown.moving.is_empty() {
        heads.extend(["COMING", "GOING"]);
    }
    if offsets.is_some() {
        heads.extend(["START", "END", "OFFSETS"]);
    }
    let rows = topic.partitions.iter().map(|partition| {
        let mut row = vec![
            partition.partition.to_string(),
            partition.leader.map_or_else(nothing, |id| id.to_string()),
            match partition.leader_epoch.value() {
                ..0 => nothing(),
                epoch => epoch.to_string(),
            },
            ids(&partition.replicas),
            ids(&partition.isr),
            ids(&partition.offline_replicas),
        ];
        if has_elr {
            let of = |ids_of: &Option<Vec<NodeId>>| ids(ids_of.as_deref().unwrap_or_default());
            row.push(of(&partition.eligible_leader_replicas));
            row.push(of(&partition.last_known_leaders));
        }
        if !shown.moving.is_empty() {
            let moving = shown.moving.get(&partition.partition);
            row.extend(moving.map_or_else(
                || [nothing(), nothing()],
                |moving| [ids(&moving.adding_replicas), ids(&moving.removing_replicas)],
            ));
        }
        if let Some(offsets) = offsets {
            match offsets.of(&topic.name, partition) {
                Ok((first, last)) => row.extend([
                    first.to_string(),
                    last.to_string(),
                    (last.value() - first.value()).to_string(),
                ]),
                Err(code) => row.extend([code_name(code), nothing(), nothing()]),
            }
        }
        row
    });
    text.push('\n');
    text.push_str(&table(&heads, rows));
    text
}

fn in_json(shown: &Shown, offsets: Option<&Offsets>) -> Value {
    let topic = &shown.topic;
    let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.value()).collect::<Vec<_>>();
    let partitions = topic.partitions.iter().map(|partition| {
        let moving = shown.moving.get(&partition.partition);
        let mut value = json!({
            "partition": partition.partition,
            "leader": partition.leader.map(NodeId::value),
            "leaderEpoch": partition.leader_epoch.value(),
            "replicas": numbers(&partition.replicas),
            "isr": numbers(&partition.isr),
            "offlineReplicas": numbers(&partition.offline_replicas),
            "eligibleLeaderReplicas": partition.eligible_leader_replicas.as_deref().map(numbers),
            "lastKnownLeaders": partition.last_known_leaders.as_deref().map(numbers),
            "addingReplicas": moving.map(|moving| numbers(&moving.adding_replicas)),
            "removingReplicas": moving.map(|moving| numbers(&moving.removing_replicas)),
        });
        if let Some(offsets) = offsets {
            let offsets = offsets.of(&topic.name, partition);
            value["start"] = json!(offsets.map(|(first, _)| first.value()).ok());
            value["end"] = json!(offsets.map(|(_, last)| last.value()).ok());
            value["error"] = json!(offsets.err().map(code_name));
        }
        value
    });
    let configs = shown.configs.iter();
    let configs = configs.map(|entry| {
        let value = entry.value.as_ref().map(|value| json!(value.as_str()));
        (entry.name.to_string(), value.unwrap_or(Value::Null))
    });
    json!({
        "topic": topic.name.as_str(),
        "topicId": topic.topic_id.map(|id| id.to_string()),
        "internal": topic.is_internal,
        "configs": configs.collect::<serde_json::Map<_, _>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}
