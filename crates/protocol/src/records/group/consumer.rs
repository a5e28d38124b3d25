//! Consumer groups (KIP-848), types 3 to 8 and 16.

use bytes::Bytes;
use tidelog_types::{GroupId, Str, Timestamp, TopicName, Uuid};

pub use crate::messages::consumer_group_heartbeat::TopicPartitions as TopicPartition;
use crate::{Wire, message};

/// Key of a consumer group.
#[message(versions = 0..=0)]
pub struct ConsumerGroupMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// A consumer group (KIP-848).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupMetadataValue {
    /// The group epoch.
    pub epoch: i32,
    /// A hash of the subscribed topics' metadata.
    #[wire(tag = 0)]
    pub metadata_hash: i64,
}

/// Key of the partitions of a group's topics; only in logs of Kafka 4.0.
#[message(versions = 0..=0)]
pub struct ConsumerGroupPartitionMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// The partitions of a group's topics; only in logs of Kafka 4.0.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupPartitionMetadataValue {
    /// The subscribed topics.
    pub topics: Vec<TopicMetadata>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicMetadata {
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
    /// The topic.
    pub topic_name: TopicName,
    /// The number of partitions.
    pub num_partitions: i32,
    /// The racks of each partition, or empty.
    pub partition_metadata: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionMetadata {
    /// The partition.
    pub partition: i32,
    /// The racks of the replicas.
    pub racks: Vec<Str>,
}

/// Key of a member of a consumer group.
#[message(versions = 0..=0)]
pub struct ConsumerGroupMemberMetadataKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// A member of a consumer group (KIP-848).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupMemberMetadataValue {
    /// The name under which a static member survives restarts, or null.
    pub instance_id: Option<Str>,
    /// The rack of the client.
    pub rack_id: Option<Str>,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// The topics to which the member subscribes.
    pub subscribed_topic_names: Vec<TopicName>,
    /// The expression by which the member subscribes, or null.
    pub subscribed_topic_regex: Option<Str>,
    /// How many milliseconds the member may take to give up partitions.
    #[wire(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The assignor that the member wants, or null.
    pub server_assignor: Option<Str>,
    /// What a member that speaks the classic protocol needs, or null.
    #[wire(tag = 0, default = Some(Default::default()))]
    pub classic_member_metadata: Option<ClassicMemberMetadata>,
}

/// What is known of a member that speaks the classic protocol.
#[derive(Clone, PartialEq, Wire)]
pub struct ClassicMemberMetadata {
    /// After how many milliseconds without heartbeat the member is taken for dead.
    pub session_timeout_ms: i32,
    /// The assignors that the member supports, with its subscription for each.
    pub supported_protocols: Vec<ClassicProtocol>,
}

/// A subscription in the classic protocol.
#[derive(Clone, PartialEq, Wire)]
pub struct ClassicProtocol {
    /// The name of the assignor.
    pub name: Str,
    /// The member's subscription, in the consumer protocol.
    pub metadata: Bytes,
}

/// Key of the epoch of a consumer group's target assignment.
#[message(versions = 0..=0)]
pub struct ConsumerGroupTargetAssignmentMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// The epoch of a consumer group's target assignment.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupTargetAssignmentMetadataValue {
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    /// When the target assignment was computed; 0 if unknown.
    #[wire(tag = 0)]
    pub assignment_timestamp: Timestamp,
}

/// Key of what a member of a consumer group should own.
#[message(versions = 0..=0)]
pub struct ConsumerGroupTargetAssignmentMemberKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// What a member of a consumer group should own.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupTargetAssignmentMemberValue {
    /// What the member should own.
    pub topic_partitions: Vec<TopicPartition>,
}

/// Key of what a member of a consumer group owns.
#[message(versions = 0..=0)]
pub struct ConsumerGroupCurrentMemberAssignmentKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// What a member of a consumer group owns (KIP-848).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupCurrentMemberAssignmentValue {
    /// The member epoch.
    pub member_epoch: i32,
    /// The member epoch before, for a member whose answer was lost.
    pub previous_member_epoch: i32,
    /// The state of the member's reconciliation.
    pub state: i8,
    /// What the member owns.
    pub assigned_partitions: Vec<TopicPartitions>,
    /// What the member must still give up.
    pub partitions_pending_revocation: Vec<TopicPartitions>,
}

/// Partitions of one topic that a member owns.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicPartitions {
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// For each partition the epoch in which it was assigned (KIP-1251), or null.
    #[wire(tag = 0, default = Some(Default::default()))]
    pub assignment_epochs: Option<Vec<i32>>,
}

/// Key of an expression to which members subscribe.
#[message(versions = 0..=0)]
pub struct ConsumerGroupRegularExpressionKey {
    /// The group.
    pub group_id: GroupId,
    /// The expression.
    pub regular_expression: Str,
}

/// The topics that an expression matches.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ConsumerGroupRegularExpressionValue {
    /// The topics that match.
    pub topics: Vec<TopicName>,
    /// The offset of the metadata against which the expression was resolved.
    pub version: i64,
    /// When the expression was resolved.
    pub timestamp: Timestamp,
}
