//! DescribeTopicPartitions, key 75.

use super::*;

/// Asks for the partitions of topics, a page at a time (KIP-966).
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeTopicPartitionsRequest {
    /// The topics, in any order; none stands for all.
    pub topics: Vec<TopicRequest>,
    /// How many partitions the answer may have.
    #[wire(default = 2000)]
    pub response_partition_limit: i32,
    /// Where to go on, or null to start.
    pub cursor: Option<Cursor>,
}

/// A topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicRequest {
    /// The topic.
    pub name: TopicName,
}

/// A place in the list of all partitions, ordered by topic and number.
#[derive(Clone, PartialEq, Wire)]
pub struct Cursor {
    /// The first topic.
    pub topic_name: TopicName,
    /// The first partition of that topic.
    pub partition_index: i32,
}

/// Brings a page of partitions.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeTopicPartitionsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    /// Where to go on, or null if this was all.
    pub next_cursor: Option<Cursor>,
}

/// A topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeTopicPartitionsResponseTopic {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The topic.
    pub name: Option<TopicName>,
    /// The id of the topic (KIP-516).
    pub topic_id: Uuid,
    /// Whether brokers keep their own records in the topic.
    pub is_internal: bool,
    /// The partitions.
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    /// What the client may do with the topic, a bit each; the smallest number if not asked for.
    #[wire(default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeTopicPartitionsResponsePartition {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition_index: i32,
    /// The leader, or -1 if there is none.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    #[wire(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    /// The replicas, the preferred leader first.
    pub replica_nodes: Vec<NodeId>,
    /// The replicas in sync.
    pub isr_nodes: Vec<NodeId>,
    /// Replicas out of sync that may lead nevertheless (KIP-966).
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    /// The last leaders that could be elected uncleanly (KIP-966).
    pub last_known_elr: Option<Vec<NodeId>>,
    /// The replicas that are offline.
    pub offline_replicas: Vec<NodeId>,
}
