//! AlterPartitionReassignments, key 45.

use super::*;

/// Moves partitions to other brokers, or stops their move (KIP-455).
///
/// Version 1 may insist on the number of replicas (KIP-860).
#[message(versions = 0..=1, flexible = 0..)]
pub struct AlterPartitionReassignmentsRequest {
    /// How long the broker may take, in milliseconds.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// Whether the number of replicas may change (KIP-860).
    #[wire(versions = 1.., default = true)]
    pub allow_replication_factor_change: bool,
    /// The topics.
    pub topics: Vec<ReassignableTopic>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReassignableTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<ReassignablePartition>,
}

/// Where one partition shall be.
#[derive(Clone, PartialEq, Wire)]
pub struct ReassignablePartition {
    /// The partition.
    pub partition_index: i32,
    /// The replicas, the preferred leader first, or null to stop a move.
    pub replicas: Option<Vec<NodeId>>,
}

/// Says which moves have begun or ended.
///
/// Version 1 repeats whether the number of replicas could change (KIP-860).
#[message(versions = 0..=1, flexible = 0..)]
pub struct AlterPartitionReassignmentsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// Whether the number of replicas may change (KIP-860).
    #[wire(versions = 1.., default = true, ignorable)]
    pub allow_replication_factor_change: bool,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The answers, by topic.
    pub responses: Vec<ReassignableTopicResponse>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReassignableTopicResponse {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<ReassignablePartitionResponse>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct ReassignablePartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
