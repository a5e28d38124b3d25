//! ShareGroupHeartbeat, key 76.

pub use super::consumer_group_heartbeat::{Assignment, TopicPartitions};
use super::*;

/// Joins a share group, stays in it, and leaves it (KIP-932).
///
/// What has not changed since the last heartbeat is null. Version 0 was a preview in Kafka 4.0 and
/// is gone.
#[message(versions = 1..=1, flexible = 0..)]
pub struct ShareGroupHeartbeatRequest {
    /// The group.
    pub group_id: GroupId,
    /// The member; the same for as long as the client lives.
    pub member_id: Str,
    /// The epoch of the member; 0 to join, -1 to leave.
    pub member_epoch: i32,
    /// The rack of the client, or null.
    pub rack_id: Option<Str>,
    /// The topics to which the member subscribes, or null for no change.
    pub subscribed_topic_names: Option<Vec<TopicName>>,
}

/// Tells a member its epoch, and what it should read.
#[message(versions = 1..=1, flexible = 0..)]
pub struct ShareGroupHeartbeatResponse {
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
    /// What the member should read, or null for no change.
    pub assignment: Option<Assignment>,
}
