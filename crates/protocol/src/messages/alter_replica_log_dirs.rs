//! AlterReplicaLogDirs, key 34.

use super::*;

/// Moves replicas of a broker to other log directories (KIP-113).
#[message(versions = 0..=2, flexible = 2..)]
pub struct AlterReplicaLogDirsRequest {
    /// The directories.
    pub dirs: Vec<AlterReplicaLogDir>,
}

/// The replicas that shall lie in one directory.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterReplicaLogDir {
    /// The absolute path of the directory.
    pub path: Str,
    /// The topics.
    pub topics: Vec<AlterReplicaLogDirTopic>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterReplicaLogDirTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Says which replicas will move.
#[message(versions = 0..=2, flexible = 2..)]
pub struct AlterReplicaLogDirsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, by topic.
    pub results: Vec<AlterReplicaLogDirTopicResult>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterReplicaLogDirTopicResult {
    /// The topic.
    pub topic_name: TopicName,
    /// The partitions.
    pub partitions: Vec<AlterReplicaLogDirPartitionResult>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterReplicaLogDirPartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
