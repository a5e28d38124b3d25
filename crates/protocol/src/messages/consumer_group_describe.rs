//! ConsumerGroupDescribe, key 69.

use super::*;

/// Asks for the members of consumer groups (KIP-848).
///
/// Version 1 tells which members speak the classic protocol (KIP-1099).
#[message(versions = 0..=1, flexible = 0..)]
pub struct ConsumerGroupDescribeRequest {
    /// The groups.
    pub group_ids: Vec<GroupId>,
    /// Whether to say what the client may do with each group (KIP-430).
    pub include_authorized_operations: bool,
}

/// Describes consumer groups.
#[message(versions = 0..=1, flexible = 0..)]
pub struct ConsumerGroupDescribeResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The groups.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribedGroup {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The group.
    pub group_id: GroupId,
    /// The state of the group, such as `Stable`.
    pub group_state: Str,
    /// The group epoch.
    pub group_epoch: i32,
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor_name: Str,
    /// The members.
    pub members: Vec<Member>,
    /// What the client may do with the group, a bit each; the smallest number if not asked for.
    #[wire(default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member.
#[derive(Clone, PartialEq, Wire)]
pub struct Member {
    /// The member.
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null.
    pub instance_id: Option<Str>,
    /// The rack of the client, or null.
    pub rack_id: Option<Str>,
    /// The epoch of the member.
    pub member_epoch: i32,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// The topics to which the member subscribes.
    pub subscribed_topic_names: Vec<TopicName>,
    /// The expression by which the member subscribes, or null.
    pub subscribed_topic_regex: Option<Str>,
    /// What the member owns.
    pub assignment: Assignment,
    /// What the member should own.
    pub target_assignment: Assignment,
    /// 0 for a member that speaks the classic protocol, 1 for one that speaks this, -1 if unknown.
    #[wire(versions = 1.., default = -1, ignorable)]
    pub member_type: i8,
}

/// What a member owns or should own.
#[derive(Clone, PartialEq, Wire)]
pub struct Assignment {
    /// The partitions.
    pub topic_partitions: Vec<TopicPartitions>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicPartitions {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The topic.
    pub topic_name: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}
