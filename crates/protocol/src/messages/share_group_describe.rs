//! ShareGroupDescribe, key 77.

pub use super::consumer_group_describe::{Assignment, TopicPartitions};
use super::*;

/// Asks for the members of share groups (KIP-932).
///
/// Version 0 was a preview in Kafka 4.0 and is gone.
#[message(versions = 1..=1, flexible = 0..)]
pub struct ShareGroupDescribeRequest {
    /// The groups.
    pub group_ids: Vec<GroupId>,
    /// Whether to say what the client may do with each group (KIP-430).
    pub include_authorized_operations: bool,
}

/// Describes share groups.
#[message(versions = 1..=1, flexible = 0..)]
pub struct ShareGroupDescribeResponse {
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
    /// What the member has now.
    pub assignment: Assignment,
}
