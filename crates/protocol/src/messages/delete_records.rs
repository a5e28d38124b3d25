//! DeleteRecords, key 21.

use super::*;

/// Moves the start of logs forward (KIP-107).
#[message(versions = 0..=2, flexible = 2..)]
pub struct DeleteRecordsRequest {
    /// The topics.
    pub topics: Vec<DeleteRecordsTopic>,
    /// How long the broker may take, in milliseconds.
    pub timeout_ms: i32,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteRecordsTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<DeleteRecordsPartition>,
}

/// Where one log shall start.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteRecordsPartition {
    /// The partition.
    pub partition_index: i32,
    /// The new start of the log; -1 for the high watermark.
    pub offset: Offset,
}

/// Says where the logs start now.
#[message(versions = 0..=2, flexible = 2..)]
pub struct DeleteRecordsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<DeleteRecordsTopicResult>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteRecordsTopicResult {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<DeleteRecordsPartitionResult>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteRecordsPartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// The lowest log start offset of all replicas, or -1.
    pub low_watermark: Offset,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
