//! ConsumerGroupHeartbeat, key 68.

use super::*;

/// Joins a consumer group, stays in it, and leaves it (KIP-848).
///
/// What has not changed since the last heartbeat is null. Version 1 subscribes by expression, and
/// its member ids are made by the client.
#[message(versions = 0..=1, flexible = 0..)]
pub struct ConsumerGroupHeartbeatRequest {
    /// The group.
    pub group_id: GroupId,
    /// The member; the same for as long as the client lives.
    pub member_id: Str,
    /// The epoch of the member; 0 to join, -1 to leave, -2 to leave as a static member that will be
    /// back.
    pub member_epoch: i32,
    /// The name under which a static member survives restarts, or null.
    pub instance_id: Option<Str>,
    /// The rack of the client, or null.
    pub rack_id: Option<Str>,
    /// How many milliseconds the member may take to give up partitions, or -1 for no change.
    #[wire(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The topics to which the member subscribes, or null for no change.
    pub subscribed_topic_names: Option<Vec<TopicName>>,
    /// The expression by which the member subscribes, or null for no change.
    #[wire(versions = 1..)]
    pub subscribed_topic_regex: Option<Str>,
    /// The assignor that the member wants, or null.
    pub server_assignor: Option<Str>,
    /// What the member owns, or null for no change.
    pub topic_partitions: Option<Vec<TopicPartitions>>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicPartitions {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Tells a member its epoch, and what it should own.
#[message(versions = 0..=1, flexible = 0..)]
pub struct ConsumerGroupHeartbeatResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The member; null if there was an error.
    pub member_id: Option<Str>,
    /// The epoch of the member.
    pub member_epoch: i32,
    /// After how many milliseconds the next heartbeat is due.
    pub heartbeat_interval_ms: i32,
    /// What the member should own, or null for no change.
    pub assignment: Option<Assignment>,
}

/// What a member should own.
#[derive(Clone, PartialEq, Wire)]
pub struct Assignment {
    /// The partitions that the member may use at once.
    pub topic_partitions: Vec<TopicPartitions>,
}
