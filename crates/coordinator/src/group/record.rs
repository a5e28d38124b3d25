use bytes::Bytes;
use tidelog_protocol::records::group::classic::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use tidelog_protocol::records::group::consumer::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use tidelog_protocol::records::group::{GroupRecordKey, GroupRecordValue};
use tidelog_protocol::{DecodeError, EncodeError};
use tidelog_types::{GroupId, PartitionIndex, Str, Timestamp, TopicName};

/// A record of `__consumer_offsets` as far as classic and consumer groups go. `None` as value is a tombstone.
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
    /// The members of a classic group and what they were assigned.
    GroupMetadata {
        /// The group.
        group_id: GroupId,
        /// One generation of it.
        value: Option<GroupMetadataValue>,
    },
    /// The epoch of a consumer group (KIP-848).
    ConsumerGroupMetadata {
        /// The group.
        group_id: GroupId,
        /// Its epoch, and a hash of the topics to which it subscribes.
        value: Option<ConsumerGroupMetadataValue>,
    },
    /// The partitions of a consumer group's topics, as Kafka 4.0 wrote them; never written anew.
    ConsumerGroupPartitionMetadata {
        /// The group.
        group_id: GroupId,
        /// Its topics.
        value: Option<ConsumerGroupPartitionMetadataValue>,
    },
    /// What a member of a consumer group says of itself.
    ConsumerGroupMember {
        /// The group.
        group_id: GroupId,
        /// The member.
        member_id: Str,
        /// Its subscription and the like.
        value: Option<ConsumerGroupMemberMetadataValue>,
    },
    /// The epoch for which a consumer group's target assignment was computed.
    ConsumerGroupTarget {
        /// The group.
        group_id: GroupId,
        /// The epoch.
        value: Option<ConsumerGroupTargetAssignmentMetadataValue>,
    },
    /// What a member of a consumer group is to own.
    ConsumerGroupTargetMember {
        /// The group.
        group_id: GroupId,
        /// The member.
        member_id: Str,
        /// The partitions.
        value: Option<ConsumerGroupTargetAssignmentMemberValue>,
    },
    /// What a member of a consumer group owns.
    ConsumerGroupCurrentMember {
        /// The group.
        group_id: GroupId,
        /// The member.
        member_id: Str,
        /// Its epoch and its partitions.
        value: Option<ConsumerGroupCurrentMemberAssignmentValue>,
    },
    /// The topics that an expression matches to which members of a consumer group subscribe.
    ConsumerGroupRegex {
        /// The group.
        group_id: GroupId,
        /// The expression.
        regex: Str,
        /// The topics.
        value: Option<ConsumerGroupRegularExpressionValue>,
    },
}

/// The versions of the values that Kafka 4.3 writes. Version 1 of a committed offset is the only one that carries a time of
/// expiry, which only clients from before KIP-211 ask for.
const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
const OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_METADATA_VALUE_VERSION: i16 = 3;
const CONSUMER_GROUP_VALUE_VERSION: i16 = 0;

/// Fixed fields, lengths and the framing of a record in a batch, generously.
const FIXED: usize = 96;

impl GroupRecord {
    /// Reads a record of the log; `None` if it is of a kind that these groups do not use, and is to be skipped.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, DecodeError> {
        use GroupRecordKey as Key;
        use GroupRecordValue as Value;
        /// The value if it is of the kind that belongs to the key, which it always is.
        macro_rules! value {
            ($kind:ident, $value:expr) => {
                match $value {
                    Some(Value::$kind(value)) => Some(value),
                    _ => None,
                }
            };
        }
        let key = Key::decode(key)?;
        let value = || value.map(|bytes| key.decode_value(bytes)).transpose();
        Ok(Some(match key.clone() {
            Key::LegacyOffsetCommit(key) | Key::OffsetCommit(key) => Self::OffsetCommit {
                group_id: key.group,
                topic: key.topic,
                partition: key.partition,
                value: value!(OffsetCommit, value()?),
            },
            Key::GroupMetadata(key) => Self::GroupMetadata {
                group_id: key.group,
                value: value!(GroupMetadata, value()?),
            },
            Key::ConsumerGroupMetadata(key) => Self::ConsumerGroupMetadata {
                group_id: key.group_id,
                value: value!(ConsumerGroupMetadata, value()?),
            },
            Key::ConsumerGroupPartitionMetadata(key) => Self::ConsumerGroupPartitionMetadata {
                group_id: key.group_id,
                value: value!(ConsumerGroupPartitionMetadata, value()?),
            },
            Key::ConsumerGroupMemberMetadata(key) => Self::ConsumerGroupMember {
                group_id: key.group_id,
                member_id: key.member_id,
                value: value!(ConsumerGroupMemberMetadata, value()?),
            },
            Key::ConsumerGroupTargetAssignmentMetadata(key) => Self::ConsumerGroupTarget {
                group_id: key.group_id,
                value: value!(ConsumerGroupTargetAssignmentMetadata, value()?),
            },
            Key::ConsumerGroupTargetAssignmentMember(key) => Self::ConsumerGroupTargetMember {
                group_id: key.group_id,
                member_id: key.member_id,
                value: value!(ConsumerGroupTargetAssignmentMember, value()?),
            },
            Key::ConsumerGroupCurrentMemberAssignment(key) => Self::ConsumerGroupCurrentMember {
                group_id: key.group_id,
                member_id: key.member_id,
                value: value!(ConsumerGroupCurrentMemberAssignment, value()?),
            },
            Key::ConsumerGroupRegularExpression(key) => Self::ConsumerGroupRegex {
                group_id: key.group_id,
                regex: key.regular_expression,
                value: value!(ConsumerGroupRegularExpression, value()?),
            },
            _ => return Ok(None),
        }))
    }

    /// Key and value for the log, in the versions that Kafka 4.3 writes.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let (value, version) = self.value();
        let value = value.map(|value| value.encode(version)).transpose()?;
        Ok((self.key().encode()?, value))
    }

    fn key(&self) -> GroupRecordKey {
        let (group_id, member_id) = (self.group_id().clone(), self.member_id().clone());
        match self {
            Self::OffsetCommit {
                topic, partition, ..
            } => GroupRecordKey::from(OffsetCommitKey {
                group: group_id,
                topic: topic.clone(),
                partition: *partition,
            }),
            Self::GroupMetadata { .. } => GroupMetadataKey { group: group_id }.into(),
            Self::ConsumerGroupMetadata { .. } => ConsumerGroupMetadataKey { group_id }.into(),
            Self::ConsumerGroupPartitionMetadata { .. } => {
                ConsumerGroupPartitionMetadataKey { group_id }.into()
            }
            Self::ConsumerGroupMember { .. } => ConsumerGroupMemberMetadataKey {
                group_id,
                member_id,
            }
            .into(),
            Self::ConsumerGroupTarget { .. } => {
                ConsumerGroupTargetAssignmentMetadataKey { group_id }.into()
            }
            Self::ConsumerGroupTargetMember { .. } => ConsumerGroupTargetAssignmentMemberKey {
                group_id,
                member_id,
            }
            .into(),
            Self::ConsumerGroupCurrentMember { .. } => ConsumerGroupCurrentMemberAssignmentKey {
                group_id,
                member_id,
            }
            .into(),
            Self::ConsumerGroupRegex { regex, .. } => ConsumerGroupRegularExpressionKey {
                group_id,
                regular_expression: regex.clone(),
            }
            .into(),
        }
    }

    /// The value, and the version in which it is written.
    fn value(&self) -> (Option<GroupRecordValue>, i16) {
        let version = match self {
            Self::OffsetCommit {
                value: Some(value), ..
            } if value.expire_timestamp != Timestamp::NONE => {
                OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY
            }
            Self::OffsetCommit { .. } => OFFSET_COMMIT_VALUE_VERSION,
            Self::GroupMetadata { .. } => GROUP_METADATA_VALUE_VERSION,
            _ => CONSUMER_GROUP_VALUE_VERSION,
        };
        let value = match self {
            Self::OffsetCommit { value, .. } => value.clone().map(Into::into),
            Self::GroupMetadata { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupMetadata { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupPartitionMetadata { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupMember { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupTarget { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupTargetMember { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupCurrentMember { value, .. } => value.clone().map(Into::into),
            Self::ConsumerGroupRegex { value, .. } => value.clone().map(Into::into),
        };
        (value, version)
    }

    /// The group that the record belongs to.
    pub const fn group_id(&self) -> &GroupId {
        match self {
            Self::OffsetCommit { group_id, .. }
            | Self::GroupMetadata { group_id, .. }
            | Self::ConsumerGroupMetadata { group_id, .. }
            | Self::ConsumerGroupPartitionMetadata { group_id, .. }
            | Self::ConsumerGroupMember { group_id, .. }
            | Self::ConsumerGroupTarget { group_id, .. }
            | Self::ConsumerGroupTargetMember { group_id, .. }
            | Self::ConsumerGroupCurrentMember { group_id, .. }
            | Self::ConsumerGroupRegex { group_id, .. } => group_id,
        }
    }

    /// The member that the record is about, empty if it is not about one.
    const fn member_id(&self) -> &Str {
        static NOBODY: Str = Str::EMPTY;
        match self {
            Self::ConsumerGroupMember { member_id, .. }
            | Self::ConsumerGroupTargetMember { member_id, .. }
            | Self::ConsumerGroupCurrentMember { member_id, .. } => member_id,
            _ => &NOBODY,
        }
    }

    /// Whether the record takes something away.
    pub const fn is_tombstone(&self) -> bool {
        match self {
            Self::OffsetCommit { value, .. } => value.is_none(),
            Self::GroupMetadata { value, .. } => value.is_none(),
            Self::ConsumerGroupMetadata { value, .. } => value.is_none(),
            Self::ConsumerGroupPartitionMetadata { value, .. } => value.is_none(),
            Self::ConsumerGroupMember { value, .. } => value.is_none(),
            Self::ConsumerGroupTarget { value, .. } => value.is_none(),
            Self::ConsumerGroupTargetMember { value, .. } => value.is_none(),
            Self::ConsumerGroupCurrentMember { value, .. } => value.is_none(),
            Self::ConsumerGroupRegex { value, .. } => value.is_none(),
        }
    }

    /// An upper bound of the bytes that the record takes in a batch.
    pub fn size_bound(&self) -> usize {
        const TEXT: usize = 5;
        const TOPIC: usize = 32;
        const PARTITION: usize = 9;
        let texts = |names: &[TopicName]| names.iter().map(|name| name.len() + TEXT).sum::<usize>();
        let text = |text: &Option<Str>| text.as_ref().map_or(0, |text| text.len());
        let own = match self {
            Self::OffsetCommit { topic, value, .. } => {
                topic.len() + value.as_ref().map_or(0, |v| v.metadata.len())
            }
            Self::GroupMetadata { group_id, value } => {
                return value.as_ref().map_or(FIXED + group_id.len(), |value| {
                    group_metadata_size(group_id, value)
                });
            }
            Self::ConsumerGroupMetadata { .. } | Self::ConsumerGroupTarget { .. } => 0,
            Self::ConsumerGroupPartitionMetadata { value, .. } => {
                let topics = value.iter().flat_map(|value| &value.topics);
                topics
                    .map(|topic| {
                        let racks = topic.partition_metadata.iter();
                        let racks = racks.map(|p| {
                            PARTITION + p.racks.iter().map(|r| r.len() + TEXT).sum::<usize>()
                        });
                        TOPIC + topic.topic_name.len() + racks.sum::<usize>()
                    })
                    .sum()
            }
            Self::ConsumerGroupMember { value, .. } => value.as_ref().map_or(0, |value| {
                let protocols = value.classic_member_metadata.iter();
                let protocols = protocols.flat_map(|classic| &classic.supported_protocols);
                texts(&value.subscribed_topic_names)
                    + text(&value.instance_id)
                    + text(&value.rack_id)
                    + text(&value.subscribed_topic_regex)
                    + text(&value.server_assignor)
                    + value.client_id.len()
                    + value.client_host.len()
                    + protocols
                        .map(|p| p.name.len() + p.metadata.len() + 2 * TEXT)
                        .sum::<usize>()
            }),
            Self::ConsumerGroupTargetMember { value, .. } => {
                let topics = value.iter().flat_map(|value| &value.topic_partitions);
                topics
                    .map(|topic| TOPIC + PARTITION * topic.partitions.len())
                    .sum()
            }
            Self::ConsumerGroupCurrentMember { value, .. } => value.as_ref().map_or(0, |value| {
                let topics = value
                    .assigned_partitions
                    .iter()
                    .chain(&value.partitions_pending_revocation);
                topics
                    .map(|topic| TOPIC + PARTITION * topic.partitions.len())
                    .sum()
            }),
            Self::ConsumerGroupRegex { regex, value, .. } => {
                regex.len() + value.as_ref().map_or(0, |value| texts(&value.topics))
            }
        };
        FIXED + self.group_id().len() + self.member_id().len() + own
    }
}

/// The same for a generation of a classic group, whose size is looked at before there is a record.
pub(super) fn group_metadata_size(group_id: &GroupId, value: &GroupMetadataValue) -> usize {
    const FIXED_MEMBER: usize = 40;
    let members = value.members.iter().map(|member| {
        FIXED_MEMBER
            + member.member_id.len()
            + member.group_instance_id.as_ref().map_or(0, |s| s.len())
            + member.client_id.len()
            + member.client_host.len()
            + member.subscription.len()
            + member.assignment.len()
    });
    FIXED
        + group_id.len()
        + value.protocol_type.len()
        + value.protocol.as_ref().map_or(0, |s| s.len())
        + value.leader.as_ref().map_or(0, |s| s.len())
        + members.sum::<usize>()
}
