//! AssignReplicasToDirs, key 73.

use super::*;

/// Tells the controller in which log directories replicas are (KIP-858).
#[message(versions = 0..=0, flexible = 0..)]
pub struct AssignReplicasToDirsRequest {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    #[wire(default = -1)]
    pub broker_epoch: i64,
    /// The log directories.
    pub directories: Vec<DirectoryData>,
}

/// One log directory.
#[derive(Clone, PartialEq, Wire)]
pub struct DirectoryData {
    /// The directory.
    pub id: Uuid,
    /// The topics.
    pub topics: Vec<TopicData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicData {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
}

/// Says which replicas were noted.
#[message(versions = 0..=0, flexible = 0..)]
pub struct AssignReplicasToDirsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The log directories.
    pub directories: Vec<DirectoryResult>,
}

/// One log directory. Kafka calls this struct `DirectoryData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct DirectoryResult {
    /// The directory.
    pub id: Uuid,
    /// The topics.
    pub topics: Vec<TopicResult>,
}

/// One topic. Kafka calls this struct `TopicData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicResult {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}

/// One partition. Kafka calls this struct `PartitionData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
