//! `tidelog cluster reassign`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tidelog_client::{Client, ClientError, Reassignment};
use tidelog_types::{NodeId, Str, TopicName, TopicPartition};

use crate::output::{Format, Outcome, count, failure, ids, pretty, table};
use crate::replicas::{self, Move, moves_in_json, moves_in_text};
use crate::throttle;

#[derive(Args)]
pub(super) struct Reassign {
    #[command(flatten)]
    what: What,
    /// The brokers that shall have the replicas of --topic; each partition keeps as many as it has.
    #[arg(long, value_name = "IDS", value_delimiter = ',', requires = "topic")]
    brokers: Vec<i32>,
    /// Copy at most so many bytes a second from broker to broker: on each broker what it sends for the moves, and what it gets.
    /// It stays until it is taken back.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["status", "cancel", "unthrottle"])]
    throttle: Option<u64>,
    /// Stop what is under way, and go back to the replicas of before.
    #[arg(long, conflicts_with_all = ["brokers", "file"])]
    cancel: bool,
    /// Take back what --throttle has set: the rates of all brokers, and the lists of --topic or --all.
    #[arg(long, conflicts_with_all = ["brokers", "file", "status", "cancel"])]
    unthrottle: bool,
    /// Only say what would be done.
    #[arg(long, conflicts_with = "status")]
    dry_run: bool,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct What {
    /// A topic; may be given several times.
    #[arg(long, short, value_name = "TOPIC", conflicts_with = "file")]
    topic: Vec<String>,
    /// The replicas of partitions, and their log directories, in the JSON of kafka-reassign-partitions.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show what is under way, of all topics or of --topic.
    #[arg(long, conflicts_with_all = ["file", "brokers", "cancel"])]
    status: bool,
    /// Together with --cancel or --unthrottle: all topics.
    #[arg(long, conflicts_with_all = ["file", "topic", "brokers", "status"])]
    all: bool,
}

/// What `kafka-reassign-partitions` reads.
#[derive(Deserialize)]
struct Plan {
    partitions: Vec<Planned>,
}

#[derive(Deserialize)]
struct Planned {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    #[serde(default)]
    log_dirs: Vec<String>,
}

/// The word by which a plan leaves the directory of a replica to the broker.
const ANY_DIRECTORY: &str = "any";

/// A replica that shall lie in a log directory.
type Placements = BTreeMap<NodeId, BTreeMap<TopicPartition, Str>>;

impl Reassign {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        if self.what.status {
            let under_way = self.under_way(client).await?;
            return Ok(show(&under_way, format).into());
        }
        if self.cancel {
            return self.stop(client, format).await;
        }
        if self.unthrottle {
            return self.end_throttle(client, format).await;
        }
        if self.what.all {
            return Err("--all goes with --cancel or --unthrottle".into());
        }
        let (mut moves, placements) = match &self.what.file {
            Some(path) => planned(client, path).await?,
            None if self.brokers.is_empty() => {
                return Err("--brokers says who shall have the replicas of --topic".into());
            }
            None => (self.spread(client).await?, Placements::new()),
        };
        let mut failed = Vec::new();
        if !self.dry_run {
            // A broker keeps in mind where a replica shall lie that it does not have yet, and says that it has none.
            for (broker, paths) in &placements {
                client.alter_log_dirs(*broker, paths).await?;
            }
            if let Some(rate) = self.throttle {
                throttle::set(client, &moves, rate).await?;
            }
            failed = replicas::begin(client, &mut moves).await?;
        }
        let said = match format {
            Format::Text if moves.is_empty() => "nothing to be moved".to_owned(),
            Format::Text => {
                let what = match (self.dry_run, self.throttle) {
                    (true, _) => "would be moved",
                    (false, None) => {
                        "begun; `tidelog cluster reassign --status` shows how it goes on"
                    }
                    (false, Some(_)) => {
                        "begun; `tidelog cluster reassign --status` shows how it goes on, and when it is done\n\
                         `tidelog cluster reassign --unthrottle --all` takes the throttle back"
                    }
                };
                format!("{}\n\n{what}", moves_in_text(&moves))
            }
            Format::Json => {
                let failed = failed.iter();
                let failed =
                    failed.map(|(name, error)| failure("partition", &name.to_string(), error));
                pretty(&json!({
                    "executed": !self.dry_run,
                    "replicas": moves_in_json(&moves),
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        let failures = failed.into_iter().map(|(_, error)| error);
        Ok(Outcome::new(said, failures.collect()))
    }

    /// What is under way, of the topics that were named or of all.
    async fn under_way(
        &self,
        client: &Client,
    ) -> Result<BTreeMap<TopicPartition, Reassignment>, ClientError> {
        let mut all = client.list_reassignments(None).await?;
        let names: BTreeSet<_> = self.what.topic.iter().map(String::as_str).collect();
        all.retain(|partition, _| names.is_empty() || names.contains(partition.topic.as_str()));
        Ok(all)
    }

    async fn end_throttle(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let named = self.what.topic.iter();
        let topics: Vec<_> = match self.what.all {
            true => {
                let all = client.list_topics().await?.into_iter();
                all.map(|topic| topic.name).collect()
            }
            false => named.map(|name| TopicName::from(name.as_str())).collect(),
        };
        let said = format!("not throttled: {}", count(topics.len(), "topic"));
        let names: Vec<_> = topics.iter().map(TopicName::to_string).collect();
        if !self.dry_run {
            throttle::clear(client, topics).await?;
        }
        Ok(match format {
            Format::Text => said,
            Format::Json => pretty(&json!({ "executed": !self.dry_run, "unthrottled": names })),
        }
        .into())
    }

    async fn stop(&self, client: &Client, format: Format) -> Result<Outcome, Box<dyn Error>> {
        let under_way = self.under_way(client).await?;
        let wanted = under_way.keys().map(|partition| (partition.clone(), None));
        let answers = match under_way.is_empty() || self.dry_run {
            true => BTreeMap::new(),
            false => client.alter_reassignments(&wanted.collect()).await?,
        };
        let failed = answers.into_iter().filter_map(|(partition, result)| {
            let error = result.err()?;
            Some((partition, error))
        });
        let failed: BTreeMap<_, _> = failed.collect();
        let stopped = under_way
            .keys()
            .filter(|partition| !failed.contains_key(*partition));
        let stopped: Vec<_> = stopped.map(ToString::to_string).collect();
        let said = match format {
            Format::Text if under_way.is_empty() => "nothing is under way".to_owned(),
            Format::Text => {
                let what = match self.dry_run {
                    true => "would be stopped",
                    false => "stopped",
                };
                let lines = stopped.iter().map(|name| format!("{what}: {name}"));
                lines.collect::<Vec<_>>().join("\n")
            }
            Format::Json => {
                let failed = failed.iter();
                let failed =
                    failed.map(|(name, error)| failure("partition", &name.to_string(), error));
                pretty(&json!({
                    "executed": !self.dry_run,
                    "stopped": stopped,
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        Ok(Outcome::new(said, failed.into_values().collect()))
    }

    /// The replicas of the topics spread over the brokers in turn, so that leaders are spread as well.
    async fn spread(&self, client: &Client) -> Result<Vec<Move>, Box<dyn Error>> {
        let brokers: Vec<_> = self.brokers.iter().copied().map(NodeId::new).collect();
        let names = self
            .what
            .topic
            .iter()
            .map(|name| TopicName::from(name.as_str()));
        let names: Vec<_> = names.collect();
        let mut moves = Vec::new();
        for (name, topic) in client.describe_topics(Some(&names)).await? {
            for (at, partition) in topic?.partitions.into_iter().enumerate() {
                let wanted = partition.replicas.len();
                if wanted > brokers.len() {
                    let (wanted, there) =
                        (count(wanted, "replica"), count(brokers.len(), "broker"));
                    return Err(format!("no room for {wanted} of {name}: {there} named").into());
                }
                let ring = brokers.iter().cycle().skip(at % brokers.len());
                let to: Vec<_> = ring.take(wanted).copied().collect();
                if to != partition.replicas {
                    moves.push(Move {
                        partition: TopicPartition::new(name.clone(), partition.partition),
                        from: partition.replicas,
                        to,
                    });
                }
            }
        }
        Ok(moves)
    }
}

/// What a file says that is different from what there is.
async fn planned(client: &Client, path: &Path) -> Result<(Vec<Move>, Placements), Box<dyn Error>> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| {
        format!("{shown} is no reassignment of kafka-reassign-partitions: {error}")
    })?;
    let names = plan.partitions.iter().map(|planned| planned.topic.as_str());
    let names: BTreeSet<_> = names.map(TopicName::from).collect();
    let names: Vec<_> = names.into_iter().collect();
    let topics = client.describe_topics(Some(&names)).await?;
    let (mut moves, mut placements) = (Vec::new(), Placements::new());
    for planned in plan.partitions {
        let name = TopicName::from(planned.topic.as_str());
        let found = match topics.get(&name) {
            Some(Ok(topic)) => {
                let mut partitions = topic.partitions.iter();
                partitions.find(|found| found.partition == planned.partition)
            }
            _ => None,
        };
        let partition = TopicPartition::new(name, planned.partition);
        let found = found.ok_or_else(|| format!("there is no partition {partition}"))?;
        let to: Vec<_> = planned.replicas.into_iter().map(NodeId::new).collect();
        for (broker, path) in to.iter().zip(&planned.log_dirs) {
            if path != ANY_DIRECTORY {
                let paths = placements.entry(*broker).or_default();
                paths.insert(partition.clone(), Str::from(path.as_str()));
            }
        }
        if to != found.replicas {
            let from = found.replicas.clone();
            moves.push(Move {
                partition,
                from,
                to,
            });
        }
    }
    Ok((moves, placements))
}

fn show(under_way: &BTreeMap<TopicPartition, Reassignment>, format: Format) -> String {
    if format == Format::Json {
        let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.value()).collect::<Vec<_>>();
        let rows = under_way.iter().map(|(partition, reassignment)| {
            json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition,
                "replicas": numbers(&reassignment.replicas),
                "adding": numbers(&reassignment.adding_replicas),
                "removing": numbers(&reassignment.removing_replicas),
            })
        });
        return pretty(&rows.collect());
    }
    if under_way.is_empty() {
        return "nothing is under way".to_owned();
    }
    let rows = under_way.iter().map(|(partition, reassignment)| {
        vec![
            partition.topic.to_string(),
            partition.partition.to_string(),
            ids(&reassignment.replicas),
            ids(&reassignment.adding_replicas),
            ids(&reassignment.removing_replicas),
        ]
    });
    let heads = ["TOPIC", "PARTITION", "REPLICAS", "COMING", "GOING"];
    table(&heads, rows)
}
