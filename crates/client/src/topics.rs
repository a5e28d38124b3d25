//! Topics: created, deleted, described, extended.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest,
};
use tidelog_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponseTopic, TopicRequest,
};
use tidelog_protocol::messages::metadata::MetadataResponseTopic;
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex, Str, TopicId, TopicName};

use crate::groups::missing;
use crate::{Client, ClientError, ConfigEntry, Connection};

/// From this version on CreateTopics knows the broker's defaults (KIP-464).
const DEFAULTS_FROM_VERSION: i16 = 4;
/// What is said where it does not.
const NO_DEFAULTS: &str =
    "it has no defaults (KIP-464), so the numbers of partitions and of replicas have to be given";
/// From this version on DeleteTopics has elements that name a topic by name or id (KIP-516).
const DELETE_BY_ID_FROM_VERSION: i16 = 6;
/// How many partitions an answer to DescribeTopicPartitions may have.
const PARTITIONS_PER_ANSWER_MAX: i32 = 2000;

/// For each topic what came of a call.
pub type PerTopic<T> = BTreeMap<TopicName, Result<T, ClientError>>;

/// A topic that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// The name.
    pub name: TopicName,
    /// The number of partitions; `None` for the broker's default (KIP-464, from Kafka 2.4 on), or if replicas are assigned.
    pub partitions: Option<i32>,
    /// The number of replicas of each partition; `None` as for the partitions.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition from 0 on, the preferred leader first; empty if the cluster shall choose.
    pub assignments: Vec<Vec<NodeId>>,
    /// The configs, by name.
    pub configs: Vec<(Str, Str)>,
}

impl NewTopic {
    /// A topic with as many partitions and replicas as the broker gives by default.
    pub fn new(name: impl Into<TopicName>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }

    /// With this number of partitions.
    #[must_use]
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// With so many replicas of each partition.
    #[must_use]
    pub fn replication_factor(mut self, count: i16) -> Self {
        self.replication_factor = Some(count);
        self
    }

    /// With this config.
    #[must_use]
    pub fn config(mut self, name: impl Into<Str>, value: impl Into<Str>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    fn needs_defaults(&self) -> bool {
        self.assignments.is_empty()
            && (self.partitions.is_none() || self.replication_factor.is_none())
    }

    fn to_request(&self) -> CreatableTopic {
        let assignments = (0..).zip(&self.assignments);
        let configs = self.configs.iter();
        CreatableTopic {
            name: self.name.clone(),
            // -1 stands for the broker's default, and for what the assignments say.
            num_partitions: self.partitions.unwrap_or(-1),
            replication_factor: self.replication_factor.unwrap_or(-1),
            assignments: assignments
                .map(|(partition_index, replicas)| CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: replicas.clone(),
                })
                .collect(),
            configs: configs
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.clone(),
                    value: Some(value.clone()),
                })
                .collect(),
        }
    }
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id (KIP-516); `None` if the broker is too old to have any, and if nothing was created.
    pub topic_id: Option<TopicId>,
    /// The number of partitions, if the broker says (KIP-525).
    pub partitions: Option<i32>,
    /// The number of replicas of each partition, if the broker says (KIP-525).
    pub replication_factor: Option<i16>,
    /// The configs, defaults included, if the broker says (KIP-525).
    pub configs: Option<Vec<ConfigEntry>>,
}

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// The name.
    pub name: TopicName,
    /// The id, if the broker has any (KIP-516).
    pub topic_id: Option<TopicId>,
    /// Whether brokers keep their own records in it.
    pub is_internal: bool,
    /// The number of partitions.
    pub partitions: usize,
    /// The number of replicas of the first partition.
    pub replication_factor: usize,
}

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The name.
    pub name: TopicName,
    /// The id, if the broker has any (KIP-516).
    pub topic_id: Option<TopicId>,
    /// Whether brokers keep their own records in it.
    pub is_internal: bool,
    /// The partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: PartitionIndex,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    /// The epoch of the leader, if the broker says.
    pub leader_epoch: LeaderEpoch,
    /// The replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those that are in sync.
    pub isr: Vec<NodeId>,
    /// Those that are offline.
    pub offline_replicas: Vec<NodeId>,
    /// Those that are not in sync and may lead nevertheless, if the broker says (KIP-966).
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    /// Those that led last, if no other may (KIP-966).
    pub last_known_leaders: Option<Vec<NodeId>>,
}

/// More partitions for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub topic: TopicName,
    /// How many partitions it shall have afterwards.
    pub count: i32,
    /// The replicas of each new partition, the preferred leader first; `None` if the cluster shall choose.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

impl Client {
    /// Creates topics, or with `validate_only` says whether that would succeed. The answer of the last of several topics of the
    /// same name counts.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<PerTopic<CreatedTopic>, ClientError> {
        let topics: BTreeMap<_, _> = topics.iter().map(|topic| (&topic.name, topic)).collect();
        let topics = &topics;
        let names = topics.keys().map(|name| (*name).clone()).collect();
        self.settle(names, |names: BTreeSet<TopicName>| async move {
            let connection = self.controller().await?;
            let wanted = || names.iter().map(|name| topics[name]);
            if wanted().any(NewTopic::needs_defaults) {
                check_defaults(&connection)?;
            }
            let request = CreateTopicsRequest {
                topics: wanted().map(NewTopic::to_request).collect(),
                timeout_ms: self.timeout_ms(),
                validate_only,
            };
            let answer = connection.send(&request).await?;
            let results = answer.topics.into_iter();
            Ok(results
                .map(|result| (result.name.clone(), created(result)))
                .collect())
        })
        .await
    }

    /// Deletes topics, with their records.
    pub async fn delete_topics(&self, topics: &[TopicName]) -> Result<PerTopic<()>, ClientError> {
        let names = topics.iter().cloned().collect();
        self.settle(names, |names: BTreeSet<TopicName>| async move {
            let connection = self.controller().await?;
            let mut request = DeleteTopicsRequest {
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            let version = connection.version::<DeleteTopicsRequest>(i16::MAX);
            match version.is_some_and(|version| version >= DELETE_BY_ID_FROM_VERSION) {
                true => request.topics = names.into_iter().map(by_name).collect(),
                false => request.topic_names = names.into_iter().collect(),
            }
            let answer = connection.send(&request).await?;
            let results = answer.responses.into_iter();
            Ok(results.filter_map(deleted).collect())
        })
        .await
    }

    /// Every topic of the cluster, those included in which brokers keep their own records.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, ClientError> {
        let metadata = self.metadata(None).await?;
        let mut listed = Vec::new();
        for topic in metadata.topics {
            let Some(name) = topic.name else { continue };
            let first = topic.partitions.first();
            listed.push(TopicListing {
                name,
                topic_id: known(topic.topic_id),
                is_internal: topic.is_internal,
                partitions: topic.partitions.len(),
                replication_factor: first.map_or(0, |partition| partition.replica_nodes.len()),
            });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// These topics with their partitions, or all of them. A broker that knows DescribeTopicPartitions (KIP-966, from Kafka 3.7
    /// on) is asked page by page.
    pub async fn describe_topics(
        &self,
        topics: Option<&[TopicName]>,
    ) -> Result<PerTopic<TopicDescription>, ClientError> {
        if topics.is_some_and(<[_]>::is_empty) {
            return Ok(PerTopic::new());
        }
        let connection = self.any().await?;
        let pages = connection.version::<DescribeTopicPartitionsRequest>(i16::MAX);
        if pages.is_some() {
            return describe_by_pages(&connection, topics).await;
        }
        let metadata = self.metadata(topics).await?;
        let described = metadata.topics.into_iter().filter_map(|topic| {
            let name = topic.name.clone()?;
            let checked = ClientError::check(topic.error_code, None, || subject(&name));
            Some((name, checked.map(|()| from_metadata(topic))))
        });
        Ok(described.collect())
    }

    /// Adds partitions to topics, or with `validate_only` says whether that would succeed.
    pub async fn create_partitions(
        &self,
        topics: &[NewPartitions],
        validate_only: bool,
    ) -> Result<PerTopic<()>, ClientError> {
        let topics: BTreeMap<_, _> = topics.iter().map(|topic| (&topic.topic, topic)).collect();
        let topics = &topics;
        let names = topics.keys().map(|name| (*name).clone()).collect();
        self.settle(names, |names: BTreeSet<TopicName>| async move {
            let wanted = names.iter().map(|name| CreatePartitionsTopic {
                name: name.clone(),
                count: topics[name].count,
                assignments: topics[name].assignments.as_ref().map(|assignments| {
                    let replicas = assignments.iter().cloned();
                    replicas
                        .map(|broker_ids| CreatePartitionsAssignment { broker_ids })
                        .collect()
                }),
            });
            let request = CreatePartitionsRequest {
                topics: wanted.collect(),
                timeout_ms: self.timeout_ms(),
                validate_only,
            };
            let answer = self.controller().await?.send(&request).await?;
            let results = answer.results.into_iter().map(|result| {
                let message = result.error_message.as_ref();
                let checked =
                    ClientError::check(result.error_code, message, || subject(&result.name));
                (result.name, checked)
            });
            Ok(results.collect())
        })
        .await
    }
}

fn subject(topic: &TopicName) -> String {
    format!("topic {topic}")
}

/// An id that stands for none on the wire.
fn known(id: TopicId) -> Option<TopicId> {
    (!id.is_zero()).then_some(id)
}

fn check_defaults(connection: &Connection) -> Result<(), ClientError> {
    let version = connection.version::<CreateTopicsRequest>(i16::MAX);
    match version.is_some_and(|version| version < DEFAULTS_FROM_VERSION) {
        true => Err(ClientError::Refused {
            subject: connection.address().to_owned(),
            code: ErrorCode::UNSUPPORTED_VERSION,
            message: Some(Str::from_static(NO_DEFAULTS)),
        }),
        false => Ok(()),
    }
}

fn created(result: CreatableTopicResult) -> Result<CreatedTopic, ClientError> {
    let message = result.error_message.as_ref();
    ClientError::check(result.error_code, message, || subject(&result.name))?;
    Ok(CreatedTopic {
        topic_id: known(result.topic_id),
        partitions: (result.num_partitions >= 0).then_some(result.num_partitions),
        replication_factor: (result.replication_factor >= 0).then_some(result.replication_factor),
        configs: result
            .configs
            .map(|configs| configs.into_iter().map(ConfigEntry::from).collect()),
    })
}

fn by_name(name: TopicName) -> DeleteTopicState {
    DeleteTopicState {
        name: Some(name),
        topic_id: TopicId::ZERO,
    }
}

fn deleted(result: DeletableTopicResult) -> Option<(TopicName, Result<(), ClientError>)> {
    let name = result.name?;
    let message = result.error_message.as_ref();
    let checked = ClientError::check(result.error_code, message, || subject(&name));
    Some((name, checked))
}

async fn describe_by_pages(
    connection: &Connection,
    topics: Option<&[TopicName]>,
) -> Result<PerTopic<TopicDescription>, ClientError> {
    let topics = topics.unwrap_or_default().iter();
    let mut request = DescribeTopicPartitionsRequest {
        topics: topics
            .map(|name| TopicRequest { name: name.clone() })
            .collect(),
        response_partition_limit: PARTITIONS_PER_ANSWER_MAX,
        cursor: None,
    };
    let mut described: PerTopic<TopicDescription> = PerTopic::new();
    loop {
        let answer = connection.send(&request).await?;
        for topic in answer.topics {
            let Some(name) = topic.name.clone() else {
                continue;
            };
            let checked = ClientError::check(topic.error_code, None, || subject(&name));
            let page = checked.map(|()| from_page(topic));
            // A topic that did not fit into a page goes on in the next one.
            match (described.get_mut(&name), page) {
                (Some(Ok(begun)), Ok(page)) => begun.partitions.extend(page.partitions),
                (_, page) => drop(described.insert(name, page)),
            }
        }
        match answer.next_cursor {
            None => return Ok(described),
            // A broker that does not move on would be asked for ever.
            same if same == request.cursor => return Err(missing(connection)),
            next => request.cursor = next,
        }
    }
}

fn from_page(topic: DescribeTopicPartitionsResponseTopic) -> TopicDescription {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionDescription {
            partition: partition.partition_index,
            leader: leader(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
            offline_replicas: partition.offline_replicas,
            eligible_leader_replicas: partition.eligible_leader_replicas,
            last_known_leaders: partition.last_known_elr,
        });
    TopicDescription {
        name: topic.name.unwrap_or_default(),
        topic_id: known(topic.topic_id),
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
    }
}

fn from_metadata(topic: MetadataResponseTopic) -> TopicDescription {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionDescription {
            partition: partition.partition_index,
            leader: leader(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
            offline_replicas: partition.offline_replicas,
            eligible_leader_replicas: None,
            last_known_leaders: None,
        });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicDescription {
        name: topic.name.unwrap_or_default(),
        topic_id: known(topic.topic_id),
        is_internal: topic.is_internal,
        partitions,
    }
}

fn leader(id: NodeId) -> Option<NodeId> {
    (id.value() >= 0).then_some(id)
}
