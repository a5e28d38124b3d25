//! Who leads partitions, and who replicates them.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use tidelog_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use tidelog_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use tidelog_types::{ErrorCode, NodeId, Str, TopicPartition};

use crate::offsets::by_topic;
use crate::{Client, ClientError, PerPartition};

/// From this version on ElectLeaders knows elections of other than the preferred replica (KIP-460).
const UNCLEAN_FROM_VERSION: i16 = 1;

/// Which replica is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElectionType {
    /// The preferred one, the first of the replicas, if it is in sync.
    Preferred,
    /// One that is not in sync, if no other is left: records may be lost (KIP-460).
    Unclean,
}

/// A partition that is changing its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reassignment {
    /// The replicas of the moment, those included that come and go.
    pub replicas: Vec<NodeId>,
    /// Those that come.
    pub adding_replicas: Vec<NodeId>,
    /// Those that go.
    pub removing_replicas: Vec<NodeId>,
}

impl Client {
    /// Elects leaders of these partitions, or of all that need it. That a partition needs no election is an error of its own
    /// (ELECTION_NOT_NEEDED) if it was named.
    pub async fn elect_leaders(
        &self,
        election_type: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<PerPartition<()>, ClientError> {
        let connection = self.controller().await?;
        let version = connection.version::<ElectLeadersRequest>(i16::MAX);
        let preferred_only = version.is_some_and(|version| version < UNCLEAN_FROM_VERSION);
        if preferred_only && election_type == ElectionType::Unclean {
            return Err(ClientError::Unsupported {
                address: connection.address().to_owned(),
                api: "ElectLeaders of replicas that are not in sync (KIP-460)".into(),
            });
        }
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions, |partition| partition.partition);
            let topics = topics.map(|(topic, partitions)| TopicPartitions { topic, partitions });
            topics.collect()
        });
        let request = ElectLeadersRequest {
            election_type: match election_type {
                ElectionType::Preferred => 0,
                ElectionType::Unclean => 1,
            },
            topic_partitions: topics,
            timeout_ms: self.timeout_ms(),
        };
        let answer = self.ask_controller(&request, |answer| answer.error_code);
        let answer = answer.await?;
        ClientError::check(answer.error_code, None, || "the election".to_owned())?;
        let topics = answer.replica_election_results.into_iter();
        let results = topics.flat_map(|topic| {
            let name = topic.topic;
            let partitions = topic.partition_result.into_iter();
            partitions.map(move |result| {
                let partition = TopicPartition::new(name.clone(), result.partition_id);
                let message = result.error_message.as_ref();
                let checked = check(&partition, result.error_code, message);
                (partition, checked)
            })
        });
        Ok(results.collect())
    }

    /// Gives partitions other replicas, the preferred leader first, or with `None` stops a change that is under way. The call
    /// returns when the change has begun; [`list_reassignments`](Self::list_reassignments) shows how it goes on.
    pub async fn alter_reassignments(
        &self,
        replicas: &BTreeMap<TopicPartition, Option<Vec<NodeId>>>,
    ) -> Result<PerPartition<()>, ClientError> {
        let partitions = replicas.keys().cloned().collect();
        self.settle(
            partitions,
            |partitions: BTreeSet<TopicPartition>| async move {
                let topics = by_topic(&partitions, |partition| ReassignablePartition {
                    partition_index: partition.partition,
                    replicas: replicas[partition].clone(),
                });
                let topics =
                    topics.map(|(name, partitions)| ReassignableTopic { name, partitions });
                let request = AlterPartitionReassignmentsRequest {
                    timeout_ms: self.timeout_ms(),
                    topics: topics.collect(),
                    ..Default::default()
                };
                let answer = self.controller().await?.send(&request).await?;
                let message = answer.error_message.as_ref();
                ClientError::check(answer.error_code, message, || "the reassignment".to_owned())?;
                let topics = answer.responses.into_iter();
                let results = topics.flat_map(|topic| {
                    let name = topic.name;
                    let partitions = topic.partitions.into_iter();
                    partitions.map(move |result| {
                        let partition = TopicPartition::new(name.clone(), result.partition_index);
                        let message = result.error_message.as_ref();
                        let checked = check(&partition, result.error_code, message);
                        (partition, checked)
                    })
                });
                Ok(results.collect())
            },
        )
        .await
    }

    /// Which of these partitions, or of all, are changing their replicas.
    pub async fn list_reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, Reassignment>, ClientError> {
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions, |partition| partition.partition);
            let topics = topics.map(
                |(name, partition_indexes)| ListPartitionReassignmentsTopics {
                    name,
                    partition_indexes,
                },
            );
            topics.collect()
        });
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics,
        };
        let answer = self.ask_controller(&request, |answer| answer.error_code);
        let answer = answer.await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || {
            "the reassignments".to_owned()
        })?;
        let topics = answer.topics.into_iter();
        let changing = topics.flat_map(|topic| {
            let name = topic.name;
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| {
                let reassignment = Reassignment {
                    replicas: partition.replicas,
                    adding_replicas: partition.adding_replicas,
                    removing_replicas: partition.removing_replicas,
                };
                (
                    TopicPartition::new(name.clone(), partition.partition_index),
                    reassignment,
                )
            })
        });
        Ok(changing.collect())
    }
}

fn check(
    partition: &TopicPartition,
    code: ErrorCode,
    message: Option<&Str>,
) -> Result<(), ClientError> {
    ClientError::check(code, message, || format!("partition {partition}"))
}
