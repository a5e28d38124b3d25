//! BeginQuorumEpoch, key 53.

pub use super::vote::NodeEndpoint;
use super::*;

/// Tells a voter who leads from now on (KIP-595).
///
/// Version 1 names directories and tells where the leader listens (KIP-853).
#[message(versions = 0..=1, flexible = 1..)]
pub struct BeginQuorumEpochRequest {
    /// The id of the cluster, or null to not check it.
    pub cluster_id: Option<Str>,
    /// The voter that is told, or -1 (KIP-853).
    #[wire(versions = 1.., default = NodeId::NONE, ignorable)]
    pub voter_id: NodeId,
    /// The topics.
    pub topics: Vec<TopicData>,
    /// Where the leader listens (KIP-853).
    #[wire(versions = 1.., ignorable)]
    pub leader_endpoints: Vec<LeaderEndpoint>,
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
    /// The directory of the voter's metadata log (KIP-853).
    #[wire(versions = 1.., ignorable)]
    pub voter_directory_id: Uuid,
    /// The new leader.
    pub leader_id: NodeId,
    /// The epoch of the new leader.
    pub leader_epoch: LeaderEpoch,
}

/// One listener of the leader.
#[derive(Clone, PartialEq, Wire)]
pub struct LeaderEndpoint {
    /// The name of the listener.
    pub name: Str,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: u16,
}

/// Acknowledges a leader.
///
/// Version 1 tells where leaders listen (KIP-853).
#[message(versions = 0..=1, flexible = 1..)]
pub struct BeginQuorumEpochResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The topics.
    pub topics: Vec<TopicResult>,
    /// Where the leaders named above listen.
    #[wire(versions = 1.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic. Kafka calls this struct `TopicData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicResult {
    /// The topic.
    pub topic_name: TopicName,
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
    /// The leader, or -1 if unknown.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
}
