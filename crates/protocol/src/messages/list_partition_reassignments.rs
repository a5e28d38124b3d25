//! ListPartitionReassignments, key 46.

use super::*;

/// Asks which partitions are being moved (KIP-455).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ListPartitionReassignmentsRequest {
    /// How long the broker may take, in milliseconds.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// The topics, or null for all.
    pub topics: Option<Vec<ListPartitionReassignmentsTopics>>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ListPartitionReassignmentsTopics {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partition_indexes: Vec<i32>,
}

/// Lists the partitions that are being moved.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ListPartitionReassignmentsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The topics.
    pub topics: Vec<OngoingTopicReassignment>,
}

/// The moves of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OngoingTopicReassignment {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<OngoingPartitionReassignment>,
}

/// The move of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct OngoingPartitionReassignment {
    /// The partition.
    pub partition_index: i32,
    /// The replicas of the moment.
    pub replicas: Vec<NodeId>,
    /// The replicas that are being added.
    pub adding_replicas: Vec<NodeId>,
    /// The replicas that are being removed.
    pub removing_replicas: Vec<NodeId>,
}
