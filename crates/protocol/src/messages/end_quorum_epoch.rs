//! EndQuorumEpoch, key 54.

pub use super::begin_quorum_epoch::{LeaderEndpoint, PartitionResult, TopicResult};
pub use super::vote::NodeEndpoint;
use super::*;

/// Tells the other voters that the leader resigns (KIP-595).
///
/// Version 1 names directories and tells where the leader listens (KIP-853).
#[message(versions = 0..=1, flexible = 1..)]
pub struct EndQuorumEpochRequest {
    /// The id of the cluster, or null to not check it.
    pub cluster_id: Option<Str>,
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
    /// The leader that resigns.
    pub leader_id: NodeId,
    /// The epoch that ends.
    pub leader_epoch: LeaderEpoch,
    /// The voters that should follow the leader, the best first.
    #[wire(versions = ..=0, ignorable)]
    pub preferred_successors: Vec<NodeId>,
    /// The voters that should follow the leader, the best first (KIP-853).
    #[wire(versions = 1.., ignorable)]
    pub preferred_candidates: Vec<ReplicaInfo>,
}

/// A voter that may follow the leader.
#[derive(Clone, PartialEq, Wire)]
pub struct ReplicaInfo {
    /// The voter.
    pub candidate_id: NodeId,
    /// The directory of its metadata log.
    pub candidate_directory_id: Uuid,
}

/// Acknowledges the end of an epoch.
///
/// Version 1 tells where leaders listen (KIP-853).
#[message(versions = 0..=1, flexible = 1..)]
pub struct EndQuorumEpochResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The topics.
    pub topics: Vec<TopicResult>,
    /// Where the leaders named above listen.
    #[wire(versions = 1.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}
