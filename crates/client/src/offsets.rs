//! Offsets: what groups have committed, and where partitions begin and end.

use std::collections::BTreeMap;

use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse,
};
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, Str, Timestamp, TopicName, TopicPartition,
};

use crate::groups::missing;
use crate::{Client, ClientError, IsolationLevel};

/// The last versions of OffsetFetch and OffsetCommit that name topics instead of their ids.
pub(crate) const OFFSET_FETCH_BY_NAME: i16 = 9;
pub(crate) const OFFSET_COMMIT_BY_NAME: i16 = 9;
/// From this version on OffsetFetch takes several groups (KIP-709).
pub(crate) const SEVERAL_GROUPS_FROM_VERSION: i16 = 8;
/// The generation of a commit from outside of the group.
pub(crate) const NO_GENERATION: i32 = -1;

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the record to be read next.
    pub offset: Offset,
    /// The leader epoch of the record before, if the consumer said (KIP-320).
    pub leader_epoch: LeaderEpoch,
    /// What the consumer has noted.
    pub metadata: Str,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that there still is.
    Earliest,
    /// The one that the next record gets.
    Latest,
    /// That of the first record of this time or later.
    At(Timestamp),
}

impl OffsetSpec {
    pub(crate) const fn timestamp(self) -> Timestamp {
        match self {
            Self::Earliest => Timestamp::from_millis(-2),
            Self::Latest => Timestamp::from_millis(-1),
            Self::At(time) => time,
        }
    }
}

/// The offset that was found for an [`OffsetSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// The offset; `None` if no record is of that time or later.
    pub offset: Option<Offset>,
    /// The time of its record, for [`OffsetSpec::At`].
    pub timestamp: Timestamp,
    /// The leader epoch in which it was written, if the broker says.
    pub leader_epoch: LeaderEpoch,
}

impl Client {
    /// Every offset that a group has committed. A group that does not exist has none.
    pub async fn committed_offsets(
        &self,
        group: &GroupId,
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        self.on_coordinator(group, |_, connection| async move {
            let several = connection
                .version::<OffsetFetchRequest>(OFFSET_FETCH_BY_NAME)
                .is_some_and(|version| version >= SEVERAL_GROUPS_FROM_VERSION);
            let mut request = OffsetFetchRequest {
                topics: None,
                ..Default::default()
            };
            match several {
                true => request.groups.push(OffsetFetchRequestGroup {
                    group_id: group.clone(),
                    topics: None,
                    ..Default::default()
                }),
                false => request.group_id = group.clone(),
            }
            let answer = connection
                .send_up_to(&request, OFFSET_FETCH_BY_NAME)
                .await?;
            committed(group, answer)
        })
        .await
    }

    /// Commits offsets for a group from outside. Kafka allows it only while the group has no members.
    pub async fn commit_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ClientError> {
        let topics = by_topic(offsets.keys(), |partition| OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: offsets[partition],
            committed_metadata: Some(Str::default()),
            ..Default::default()
        });
        let topics = topics.map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: group.clone(),
            generation_id_or_member_epoch: NO_GENERATION,
            topics: topics.collect(),
            ..Default::default()
        };
        let request = &request;
        self.on_coordinator(group, |_, connection| async move {
            let answer = connection
                .send_up_to(request, OFFSET_COMMIT_BY_NAME)
                .await?;
            each(&answer.topics, |topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|p| (&topic.name, p.partition_index, p.error_code))
            })
        })
        .await
    }

    /// Deletes committed offsets of partitions to which no member of the group subscribes.
    pub async fn delete_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let topics = by_topic(partitions, |partition| OffsetDeleteRequestPartition {
            partition_index: partition.partition,
        });
        let topics = topics.map(|(name, partitions)| OffsetDeleteRequestTopic { name, partitions });
        let request = OffsetDeleteRequest {
            group_id: group.clone(),
            topics: topics.collect(),
        };
        let request = &request;
        self.on_coordinator(group, |_, connection| async move {
            let answer = connection.send(request).await?;
            ClientError::check(answer.error_code, None, || format!("group {group}"))?;
            each(&answer.topics, |topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|p| (&topic.name, p.partition_index, p.error_code))
            })
        })
        .await
    }

    /// Offsets of partitions, asked of their leaders. A partition that does not exist, or has no leader, is an error of its
    /// own.
    pub async fn list_offsets(
        &self,
        partitions: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, Result<OffsetAt, ErrorCode>>, ClientError> {
        self.list_offsets_seen(partitions, IsolationLevel::ReadUncommitted)
            .await
    }

    /// [`list_offsets`](Self::list_offsets) as far as this isolation level sees.
    pub(crate) async fn list_offsets_seen(
        &self,
        partitions: &[(TopicPartition, OffsetSpec)],
        isolation_level: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, Result<OffsetAt, ErrorCode>>, ClientError> {
        let mut found = BTreeMap::new();
        let (leaders, lost) = self.leaders(partitions).await?;
        found.extend(
            lost.into_iter()
                .map(|(partition, code)| (partition, Err(code))),
        );
        for (address, wanted) in leaders {
            let topics = by_topic(wanted.keys(), |partition| ListOffsetsPartition {
                partition_index: partition.partition,
                timestamp: wanted[partition].timestamp(),
                ..Default::default()
            });
            let topics = topics.map(|(name, partitions)| ListOffsetsTopic { name, partitions });
            let request = ListOffsetsRequest {
                replica_id: NodeId::NONE,
                isolation_level: isolation_level.code(),
                topics: topics.collect(),
                timeout_ms: self.timeout_ms(),
            };
            let connection = self.at(&address).await?;
            for topic in connection.send(&request).await?.topics {
                for answer in topic.partitions {
                    let name = topic.name.clone();
                    let partition = TopicPartition::new(name, answer.partition_index);
                    found.insert(partition, offset_at(&answer));
                }
            }
            if !wanted.keys().all(|partition| found.contains_key(partition)) {
                return Err(missing(&connection));
            }
        }
        Ok(found)
    }

    /// What to ask of whom, by the address of the leader; and what cannot be asked of anybody.
    pub(crate) async fn leaders<T: Clone>(
        &self,
        partitions: &[(TopicPartition, T)],
    ) -> Result<(Wanted<T>, Vec<(TopicPartition, ErrorCode)>), ClientError> {
        let mut topics: Vec<TopicName> = partitions.iter().map(|(p, _)| p.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        let metadata = self.metadata(Some(&topics)).await?;
        let mut leaders = Wanted::new();
        let mut lost = Vec::new();
        for (partition, what) in partitions {
            let topic = metadata.topics.iter();
            let mut topic = topic.filter(|topic| topic.name.as_ref() == Some(&partition.topic));
            let known = topic
                .next()
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                .and_then(|topic| match topic.error_code.is_ok() {
                    true => Ok(topic),
                    false => Err(topic.error_code),
                })
                .and_then(|topic| {
                    let mut all = topic.partitions.iter();
                    all.find(|known| known.partition_index == partition.partition)
                        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                });
            let leader = known.and_then(|known| {
                let mut brokers = metadata.brokers.iter();
                brokers
                    .find(|broker| broker.node_id == known.leader_id)
                    .ok_or(ErrorCode::LEADER_NOT_AVAILABLE)
            });
            match leader {
                Err(code) => lost.push((partition.clone(), code)),
                Ok(broker) => {
                    let broker = crate::Broker {
                        id: broker.node_id,
                        host: broker.host.clone(),
                        port: broker.port,
                    };
                    let wanted = leaders.entry(broker.address()).or_default();
                    wanted.insert(partition.clone(), what.clone());
                }
            }
        }
        Ok((leaders, lost))
    }
}

/// The offset in an answer of any version.
pub(crate) fn offset_at(answer: &ListOffsetsPartitionResponse) -> Result<OffsetAt, ErrorCode> {
    if answer.error_code.is_err() {
        return Err(answer.error_code);
    }
    let offset = answer.old_style_offsets.first();
    let offset = offset.copied().unwrap_or(answer.offset);
    Ok(OffsetAt {
        offset: (offset.value() >= 0).then_some(offset),
        timestamp: answer.timestamp,
        leader_epoch: answer.leader_epoch,
    })
}

/// What is asked about partitions, by the address of the leader.
type Wanted<T> = BTreeMap<String, BTreeMap<TopicPartition, T>>;

/// Partitions as most requests want them: one element for each topic.
pub(crate) fn by_topic<'a, T>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    element: impl Fn(&TopicPartition) -> T,
) -> impl Iterator<Item = (TopicName, Vec<T>)> {
    let mut topics = BTreeMap::<TopicName, Vec<T>>::new();
    for partition in partitions {
        let elements = topics.entry(partition.topic.clone()).or_default();
        elements.push(element(partition));
    }
    topics.into_iter()
}

/// The first error of an answer for each partition.
fn each<'a, T: 'a, I>(topics: &'a [T], partitions: impl Fn(&'a T) -> I) -> Result<(), ClientError>
where
    I: Iterator<Item = (&'a TopicName, i32, ErrorCode)>,
{
    for (topic, partition, code) in topics.iter().flat_map(partitions) {
        ClientError::check(code, None, || format!("partition {topic}-{partition}"))?;
    }
    Ok(())
}

/// The offsets in an answer of any version; those that are not there are left out.
pub(crate) fn committed(
    group: &GroupId,
    answer: OffsetFetchResponse,
) -> Result<Vec<CommittedOffset>, ClientError> {
    let subject = || format!("the offsets of group {group}");
    ClientError::check(answer.error_code, None, subject)?;
    let mut all = Vec::new();
    let mut add = |topic: &TopicName, index, offset, leader_epoch, metadata: Option<Str>, code| {
        let partition = TopicPartition::new(topic.clone(), index);
        ClientError::check(code, None, || format!("partition {partition}"))?;
        if offset != Offset::NONE {
            all.push(CommittedOffset {
                partition,
                offset,
                leader_epoch,
                metadata: metadata.unwrap_or_default(),
            });
        }
        Ok::<_, ClientError>(())
    };
    for topic in answer.topics {
        for p in topic.partitions {
            let epoch = p.committed_leader_epoch;
            add(
                &topic.name,
                p.partition_index,
                p.committed_offset,
                epoch,
                p.metadata,
                p.error_code,
            )?;
        }
    }
    for found in answer.groups {
        ClientError::check(found.error_code, None, subject)?;
        for topic in found.topics {
            for p in topic.partitions {
                let epoch = p.committed_leader_epoch;
                add(
                    &topic.name,
                    p.partition_index,
                    p.committed_offset,
                    epoch,
                    p.metadata,
                    p.error_code,
                )?;
            }
        }
    }
    all.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(all)
}
