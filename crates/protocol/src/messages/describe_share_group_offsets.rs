//! DescribeShareGroupOffsets, key 90.

use super::*;

/// Asks how far share groups are (KIP-932).
#[message(versions = 0..=1, flexible = 0..)]
pub struct DescribeShareGroupOffsetsRequest {
    /// The groups.
    pub groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
}

/// One group.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeShareGroupOffsetsRequestGroup {
    /// The group.
    pub group_id: GroupId,
    /// The topics, or null for all.
    pub topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeShareGroupOffsetsRequestTopic {
    /// The topic.
    pub topic_name: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Tells how far share groups are.
///
/// Version 1 adds the lag (KIP-1226).
#[message(versions = 0..=1, flexible = 0..)]
pub struct DescribeShareGroupOffsetsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The groups.
    pub groups: Vec<DescribeShareGroupOffsetsResponseGroup>,
}

/// One group.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeShareGroupOffsetsResponseGroup {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeShareGroupOffsetsResponseTopic {
    /// The topic.
    pub topic_name: TopicName,
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<DescribeShareGroupOffsetsResponsePartition>,
}

/// How far a group is in one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeShareGroupOffsetsResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// The first offset that is still to be delivered, or -1 if it is not set yet.
    pub start_offset: Offset,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// How many records are still to be delivered, or -1 if unknown (KIP-1226).
    #[wire(versions = 1.., default = -1, ignorable)]
    pub lag: i64,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
