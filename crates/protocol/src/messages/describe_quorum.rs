//! DescribeQuorum, key 55.

use super::*;

/// Asks who is in the metadata quorum, and how far (KIP-595).
#[message(versions = 0..=2, flexible = 0..)]
pub struct DescribeQuorumRequest {
    /// The topics.
    pub topics: Vec<TopicData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicData {
    /// The topic.
    pub topic_name: TopicName,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
}

/// Describes the metadata quorum.
///
/// Version 1 tells when replicas fetched (KIP-836), 2 names directories and listeners (KIP-853).
#[message(versions = 0..=2, flexible = 0..)]
pub struct DescribeQuorumResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    #[wire(versions = 2.., ignorable)]
    pub error_message: Option<Str>,
    /// The topics.
    pub topics: Vec<TopicResult>,
    /// Where voters and observers listen (KIP-853).
    #[wire(versions = 2..)]
    pub nodes: Vec<Node>,
}

/// One topic. Kafka calls this struct `TopicData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicResult {
    /// The topic.
    pub topic_name: TopicName,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}

/// The quorum of one partition. Kafka calls this struct `PartitionData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    #[wire(versions = 2.., ignorable)]
    pub error_message: Option<Str>,
    /// The leader, or -1 if unknown.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is not yet committed.
    pub high_watermark: Offset,
    /// The voters.
    pub current_voters: Vec<ReplicaState>,
    /// The replicas that follow without a vote.
    pub observers: Vec<ReplicaState>,
}

/// How far a replica is.
#[derive(Clone, PartialEq, Wire)]
pub struct ReplicaState {
    /// The replica.
    pub replica_id: NodeId,
    /// The directory of its metadata log (KIP-853).
    #[wire(versions = 2..)]
    pub replica_directory_id: Uuid,
    /// The end of its log, or -1 if unknown.
    pub log_end_offset: Offset,
    /// When the replica last fetched; -1 for the leader or if unknown (KIP-836).
    #[wire(versions = 1.., default = Timestamp::NONE, ignorable)]
    pub last_fetch_timestamp: Timestamp,
    /// When the replica last had all that the leader had; -1 if unknown (KIP-836).
    #[wire(versions = 1.., default = Timestamp::NONE, ignorable)]
    pub last_caught_up_timestamp: Timestamp,
}

/// Where a node of the quorum listens.
#[derive(Clone, PartialEq, Wire)]
pub struct Node {
    /// The node.
    pub node_id: NodeId,
    /// Where the node listens.
    pub listeners: Vec<Listener>,
}

/// One listener.
#[derive(Clone, PartialEq, Wire)]
pub struct Listener {
    /// The name of the listener.
    pub name: Str,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: u16,
}
