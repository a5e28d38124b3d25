//! `tidelog cluster drain`.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidelog_client::{Client, ClientError, ElectionType};
use tidelog_types::{ErrorCode, NodeId, TopicPartition};

use crate::output::{Format, Outcome, count, failure, pretty};
use crate::replicas::{self, Move, moves_in_json, moves_in_text};
use crate::throttle;

/// How often it is asked how far the cluster has come.
const POLL: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Drain {
    /// The broker.
    #[arg(value_name = "BROKER")]
    broker: i32,
    /// Only have others lead; its replicas stay. The broker leads again what it prefers when leaders are elected.
    #[arg(long)]
    leaders_only: bool,
    /// Copy at most so many bytes a second from broker to broker until the moves are done.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["leaders_only", "no_wait"])]
    throttle: Option<u64>,
    /// Return when the moves have begun. They go on.
    #[arg(long)]
    no_wait: bool,
    /// Only say what would be moved.
    #[arg(long)]
    dry_run: bool,
}

/// What has to be done.
struct Plan {
    moves: Vec<Move>,
    /// Partitions for whose replica there is no other broker.
    stuck: Vec<TopicPartition>,
}

impl Drain {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let Plan { mut moves, stuck } = self.plan(client).await?;
        let mut failed = Vec::new();
        if !self.dry_run {
            if let Some(rate) = self.throttle {
                throttle::set(client, &moves, rate).await?;
            }
            failed = replicas::begin(client, &mut moves).await?;
            if !self.no_wait {
                if format == Format::Text && !moves.is_empty() {
                    crate::say(&moves_in_text(&moves));
                }
                self.follow(client, &moves, format).await?;
                if self.throttle.is_some() {
                    let topics = moves.iter().map(|moved| moved.partition.topic.clone());
                    throttle::clear(client, topics).await?;
                }
                failed.extend(self.elect(client, &moves).await?);
            }
        }
        let broker = NodeId::new(self.broker);
        let no_room = stuck.into_iter().map(|partition| {
            let subject = format!("partition {partition}");
            let error = ClientError::Refused {
                subject,
                code: ErrorCode::INVALID_REPLICATION_FACTOR,
                message: Some("no other broker has room for the replica".into()),
            };
            (partition, error)
        });
        failed.extend(no_room);
        let said = match format {
            Format::Text => {
                let partitions = count(moves.len(), "partition");
                let what = match self.leaders_only {
                    true => "the leadership",
                    false => "the replicas",
                };
                if self.dry_run && !moves.is_empty() {
                    format!(
                        "{}\n\nwould be moved away from broker {broker}",
                        moves_in_text(&moves)
                    )
                } else if self.no_wait && !moves.is_empty() {
                    format!(
                        "{}\n\nbegun; `tidelog cluster reassign --status` shows how it goes on",
                        moves_in_text(&moves)
                    )
                } else if moves.is_empty() {
                    match failed.is_empty() {
                        true => format!("broker {broker} has nothing to be moved away"),
                        false => String::new(),
                    }
                } else {
                    format!("moved away from broker {broker}: {what} of {partitions}")
                }
            }
            Format::Json => {
                let failed = failed.iter();
                let failed =
                    failed.map(|(name, error)| failure("partition", &name.to_string(), error));
                pretty(&json!({
                    "broker": self.broker,
                    "executed": !self.dry_run,
                    "replicas": moves_in_json(&moves),
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        let failures = failed.into_iter().map(|(_, error)| error);
        Ok(Outcome::new(said, failures.collect()))
    }

    async fn plan(&self, client: &Client) -> Result<Plan, Box<dyn Error>> {
        let broker = NodeId::new(self.broker);
        let (brokers, topics) = replicas::brokers(client).await?;
        let mut brokers = brokers.without(broker);
        let (mut moves, mut stuck) = (Vec::new(), Vec::new());
        for (name, topic) in topics {
            for found in topic?.partitions {
                let partition = TopicPartition::new(name.clone(), found.partition);
                let from = found.replicas;
                if !from.contains(&broker) {
                    continue;
                }
                let to = match self.leaders_only {
                    false => brokers.replace(&from, broker),
                    true if from.first() != Some(&broker) && found.leader != Some(broker) => {
                        continue;
                    }
                    // Behind all others it is preferred to none of them.
                    true => {
                        let mut to = from.clone();
                        to.retain(|id| *id != broker);
                        let is_alone = to.is_empty();
                        to.push(broker);
                        (!is_alone).then_some(to)
                    }
                };
                match to {
                    Some(to) => moves.push(Move {
                        partition,
                        from,
                        to,
                    }),
                    None => stuck.push(partition),
                }
            }
        }
        Ok(Plan { moves, stuck })
    }

    /// Waits until all moves are done, and says how many are left whenever that has changed.
    async fn follow(
        &self,
        client: &Client,
        moves: &[Move],
        format: Format,
    ) -> Result<(), ClientError> {
        let ours: BTreeSet<_> = moves.iter().map(|moved| &moved.partition).collect();
        let mut last = None;
        loop {
            let under_way = client.list_reassignments(None).await?;
            let left = under_way
                .keys()
                .filter(|partition| ours.contains(partition))
                .count();
            if left == 0 {
                return Ok(());
            }
            if format == Format::Text && last.replace(left) != Some(left) {
                crate::say(&format!("{} on the way", count(left, "partition")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Has the replicas lead that are preferred now: a broker that stays a replica leads until then.
    async fn elect(
        &self,
        client: &Client,
        moves: &[Move],
    ) -> Result<Vec<(TopicPartition, ClientError)>, ClientError> {
        let partitions: Vec<_> = moves.iter().map(|moved| moved.partition.clone()).collect();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let elected = client.elect_leaders(ElectionType::Preferred, Some(&partitions));
        let needless = Some(ErrorCode::ELECTION_NOT_NEEDED);
        let failed = elected
            .await?
            .into_iter()
            .filter_map(|(partition, result)| {
                let error = result.err().filter(|error| error.code() != needless)?;
                Some((partition, error))
            });
        Ok(failed.collect())
    }
}
