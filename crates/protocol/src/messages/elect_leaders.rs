//! ElectLeaders, key 43.

use super::*;

/// Elects leaders of partitions (KIP-183).
///
/// Version 1 knows unclean elections (KIP-460).
#[message(versions = 0..=2, flexible = 2..)]
pub struct ElectLeadersRequest {
    /// Who shall lead: 0 the preferred replica, 1 one that is not in sync if no other is left
    /// (KIP-460).
    #[wire(versions = 1..)]
    pub election_type: i8,
    /// The topics, or null for all.
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    /// How long the broker may take, in milliseconds.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Says which partitions have new leaders.
///
/// Version 1 has an error of its own (KIP-460).
#[message(versions = 0..=2, flexible = 2..)]
pub struct ElectLeadersResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    #[wire(versions = 1..)]
    pub error_code: ErrorCode,
    /// The answers, by topic.
    pub replica_election_results: Vec<ReplicaElectionResult>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReplicaElectionResult {
    /// The topic.
    pub topic: TopicName,
    /// The answers, by partition.
    pub partition_result: Vec<PartitionResult>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResult {
    /// The partition.
    pub partition_id: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
