//! OffsetDelete, key 47.

use super::*;

/// Deletes committed offsets of a group (KIP-496). There is no flexible version.
#[message(versions = 0..=0)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<OffsetDeleteRequestTopic>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetDeleteRequestTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<OffsetDeleteRequestPartition>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetDeleteRequestPartition {
    /// The partition.
    pub partition_index: i32,
}

/// Says which offsets were deleted.
#[message(versions = 0..=0)]
pub struct OffsetDeleteResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<OffsetDeleteResponseTopic>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetDeleteResponseTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<OffsetDeleteResponsePartition>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetDeleteResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
