//! CreatePartitions, key 37.

use super::*;

/// Adds partitions to topics (KIP-195).
///
/// Version 3 may be told to slow down (KIP-599).
#[message(versions = 0..=3, flexible = 2..)]
pub struct CreatePartitionsRequest {
    /// The topics.
    pub topics: Vec<CreatePartitionsTopic>,
    /// How long the broker may take, in milliseconds.
    pub timeout_ms: i32,
    /// Whether to check the request and change nothing.
    pub validate_only: bool,
}

/// How many partitions one topic shall have.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatePartitionsTopic {
    /// The topic.
    pub name: TopicName,
    /// The number of partitions afterwards, old ones included.
    pub count: i32,
    /// The replicas of each new partition, if the client chooses them, or null.
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// The replicas of one new partition.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatePartitionsAssignment {
    /// The replicas, the preferred leader first.
    pub broker_ids: Vec<NodeId>,
}

/// Says which topics have more partitions now.
#[message(versions = 0..=3, flexible = 2..)]
pub struct CreatePartitionsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers.
    pub results: Vec<CreatePartitionsTopicResult>,
}

/// The answer for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatePartitionsTopicResult {
    /// The topic.
    pub name: TopicName,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
