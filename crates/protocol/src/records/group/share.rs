//! Share groups (KIP-932), types 10 to 15.

use tidelog_types::{GroupId, Str, Timestamp, TopicName, Uuid};

pub use crate::messages::consumer_group_describe::TopicPartitions as TopicPartitionsInfo;
pub use crate::messages::consumer_group_heartbeat::TopicPartitions;
use crate::{Wire, message};

/// Key of a member of a share group.
#[message(versions = 0..=0)]
pub struct ShareGroupMemberMetadataKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// A member of a share group (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareGroupMemberMetadataValue {
    /// The rack of the client.
    pub rack_id: Option<Str>,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// The topics to which the member subscribes.
    pub subscribed_topic_names: Vec<TopicName>,
}

/// Key of a share group.
#[message(versions = 0..=0)]
pub struct ShareGroupMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// A share group (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareGroupMetadataValue {
    /// The group epoch.
    pub epoch: i32,
    /// A hash of the subscribed topics' metadata.
    pub metadata_hash: i64,
}

/// Key of the epoch of a share group's target assignment.
#[message(versions = 0..=0)]
pub struct ShareGroupTargetAssignmentMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// The epoch of a share group's target assignment.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareGroupTargetAssignmentMetadataValue {
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    /// When the target assignment was computed; 0 if unknown.
    #[wire(tag = 0)]
    pub assignment_timestamp: Timestamp,
}

/// Key of what a member of a share group should own.
#[message(versions = 0..=0)]
pub struct ShareGroupTargetAssignmentMemberKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// What a member of a share group should own.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareGroupTargetAssignmentMemberValue {
    /// What the member should own.
    pub topic_partitions: Vec<TopicPartitions>,
}

/// Key of what a member of a share group owns.
#[message(versions = 0..=0)]
pub struct ShareGroupCurrentMemberAssignmentKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// What a member of a share group owns (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareGroupCurrentMemberAssignmentValue {
    /// The member epoch.
    pub member_epoch: i32,
    /// The member epoch before, for a member whose answer was lost.
    pub previous_member_epoch: i32,
    /// The state of the member's reconciliation.
    pub state: i8,
    /// What the member owns.
    pub assigned_partitions: Vec<TopicPartitions>,
}

/// Key of the partitions that a share group has started on.
#[message(versions = 0..=0)]
pub struct ShareGroupStatePartitionMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// The partitions that a share group has started on.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ShareGroupStatePartitionMetadataValue {
    /// Share partitions whose state is being initialized.
    pub initializing_topics: Vec<TopicPartitionsInfo>,
    /// Share partitions whose state is initialized.
    pub initialized_topics: Vec<TopicPartitionsInfo>,
    /// Topics whose share state is being deleted.
    pub deleting_topics: Vec<TopicInfo>,
}

/// A topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicInfo {
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
    /// The topic.
    pub topic_name: TopicName,
}
