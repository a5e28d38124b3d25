//! AlterShareGroupOffsets, key 91.

use super::*;

/// Moves an empty share group to other offsets (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct AlterShareGroupOffsetsRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<AlterShareGroupOffsetsRequestTopic>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterShareGroupOffsetsRequestTopic {
    /// The topic.
    pub topic_name: TopicName,
    /// The partitions.
    pub partitions: Vec<AlterShareGroupOffsetsRequestPartition>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterShareGroupOffsetsRequestPartition {
    /// The partition.
    pub partition_index: i32,
    /// The first offset to deliver.
    pub start_offset: Offset,
}

/// Says which offsets were moved.
#[message(versions = 0..=0, flexible = 0..)]
pub struct AlterShareGroupOffsetsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The topics.
    pub responses: Vec<AlterShareGroupOffsetsResponseTopic>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterShareGroupOffsetsResponseTopic {
    /// The topic.
    pub topic_name: TopicName,
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<AlterShareGroupOffsetsResponsePartition>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterShareGroupOffsetsResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
