use bytes::Bytes;
use tidelog_protocol::records::group::classic::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use tidelog_protocol::records::group::{GroupRecordKey, GroupRecordValue};
use tidelog_protocol::{DecodeError, EncodeError};
use tidelog_types::{GroupId, PartitionIndex, Timestamp, TopicName};

/// A record of `__consumer_offsets` as far as classic groups go. `None` as value is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    /// A committed offset.
    OffsetCommit {
        /// The group that has come this far.
        group_id: GroupId,
        /// The topic that is consumed.
        topic: TopicName,
        /// The partition of the topic.
        partition: PartitionIndex,
        /// The offset.
        value: Option<OffsetCommitValue>,
    },
    /// The members of a group and what they were assigned.
    GroupMetadata {
        /// The group.
        group_id: GroupId,
        /// One generation of it.
        value: Option<GroupMetadataValue>,
    },
}

/// The versions of the values that Kafka 4.3 writes. Version 1 of a committed offset is the only one that carries a time of
/// expiry, which only clients from before KIP-211 ask for.
const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
const OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_METADATA_VALUE_VERSION: i16 = 3;

impl GroupRecord {
    /// Reads a record of the log; `None` if it is of a kind that classic groups do not use, and is to be skipped.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, DecodeError> {
        use GroupRecordKey::{GroupMetadata, LegacyOffsetCommit, OffsetCommit};
        let key = GroupRecordKey::decode(key)?;
        if !matches!(
            key,
            GroupMetadata(_) | LegacyOffsetCommit(_) | OffsetCommit(_)
        ) {
            return Ok(None);
        }
        let value = value.map(|bytes| key.decode_value(bytes)).transpose()?;
        Ok(match (key, value) {
            (LegacyOffsetCommit(key) | OffsetCommit(key), value) => Some(Self::OffsetCommit {
                group_id: key.group,
                topic: key.topic,
                partition: key.partition,
                value: match value {
                    Some(GroupRecordValue::OffsetCommit(value)) => Some(value),
                    _ => None,
                },
            }),
            (GroupMetadata(key), value) => Some(Self::GroupMetadata {
                group_id: key.group,
                value: match value {
                    Some(GroupRecordValue::GroupMetadata(value)) => Some(value),
                    _ => None,
                },
            }),
            _ => None,
        })
    }

    /// Key and value for the log, in the versions that Kafka 4.3 writes.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::OffsetCommit {
                group_id,
                topic,
                partition,
                value,
            } => {
                let key = GroupRecordKey::OffsetCommit(OffsetCommitKey {
                    group: group_id.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                });
                let value = value.as_ref().map(|value| {
                    let version = if value.expire_timestamp == Timestamp::NONE {
                        OFFSET_COMMIT_VALUE_VERSION
                    } else {
                        OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY
                    };
                    GroupRecordValue::OffsetCommit(value.clone()).encode(version)
                });
                Ok((key.encode()?, value.transpose()?))
            }
            Self::GroupMetadata { group_id, value } => {
                let group = group_id.clone();
                let key = GroupRecordKey::GroupMetadata(GroupMetadataKey { group });
                let value = value.as_ref().map(|value| {
                    let value = GroupRecordValue::GroupMetadata(value.clone());
                    value.encode(GROUP_METADATA_VALUE_VERSION)
                });
                Ok((key.encode()?, value.transpose()?))
            }
        }
    }

    /// The group that the record belongs to.
    pub const fn group_id(&self) -> &GroupId {
        match self {
            Self::OffsetCommit { group_id, .. } | Self::GroupMetadata { group_id, .. } => group_id,
        }
    }

    /// An upper bound of the bytes that the record takes in a batch.
    pub fn size_bound(&self) -> usize {
        // Fixed fields, lengths and the framing of a record in a batch, generously.
        const FIXED: usize = 96;
        const FIXED_MEMBER: usize = 40;
        FIXED
            + match self {
                Self::OffsetCommit {
                    group_id,
                    topic,
                    value,
                    ..
                } => group_id.len() + topic.len() + value.as_ref().map_or(0, |v| v.metadata.len()),
                Self::GroupMetadata { group_id, value } => {
                    let value = value.as_ref().map_or(0, |value| {
                        value.protocol_type.len()
                            + value.protocol.as_ref().map_or(0, |s| s.len())
                            + value.leader.as_ref().map_or(0, |s| s.len())
                            + value
                                .members
                                .iter()
                                .map(|member| {
                                    FIXED_MEMBER
                                        + member.member_id.len()
                                        + member.group_instance_id.as_ref().map_or(0, |s| s.len())
                                        + member.client_id.len()
                                        + member.client_host.len()
                                        + member.subscription.len()
                                        + member.assignment.len()
                                })
                                .sum::<usize>()
                    });
                    group_id.len() + value
                }
            }
    }
}
