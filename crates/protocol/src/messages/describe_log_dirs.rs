//! DescribeLogDirs, key 35.

use super::*;

/// Asks how large the replicas in each log directory are (KIP-113).
#[message(versions = 0..=5, flexible = 2..)]
pub struct DescribeLogDirsRequest {
    /// The topics, or null for all.
    pub topics: Option<Vec<DescribableLogDirTopic>>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribableLogDirTopic {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Describes log directories.
///
/// Version 3 has an error of its own (KIP-784), 4 tells the size of the disk (KIP-827), 5 which
/// directories are cordoned (KIP-1066).
#[message(versions = 0..=5, flexible = 2..)]
pub struct DescribeLogDirsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    #[wire(versions = 3.., ignorable)]
    pub error_code: ErrorCode,
    /// The directories.
    pub results: Vec<DescribeLogDirsResult>,
}

/// One directory.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeLogDirsResult {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The absolute path of the directory.
    pub log_dir: Str,
    /// The topics.
    pub topics: Vec<DescribeLogDirsTopic>,
    /// The size of the volume in bytes, or -1 (KIP-827).
    #[wire(versions = 4.., default = -1, ignorable)]
    pub total_bytes: i64,
    /// The free space of the volume in bytes, or -1 (KIP-827).
    #[wire(versions = 4.., default = -1, ignorable)]
    pub usable_bytes: i64,
    /// Whether the directory takes no new replicas (KIP-1066).
    #[wire(versions = 5.., ignorable)]
    pub is_cordoned: bool,
}

/// The replicas of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeLogDirsTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<DescribeLogDirsPartition>,
}

/// One replica.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeLogDirsPartition {
    /// The partition.
    pub partition_index: i32,
    /// The size of all segments, in bytes.
    pub partition_size: i64,
    /// How far the replica is behind: a future one behind the current one, that behind the high
    /// watermark.
    pub offset_lag: i64,
    /// Whether this is the copy that will replace the current replica after a move.
    pub is_future_key: bool,
}
