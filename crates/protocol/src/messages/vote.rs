//! Vote, key 52.

use super::*;

/// Asks a voter of the metadata quorum for its vote (KIP-595).
///
/// Version 1 names directories (KIP-853), 2 may ask without an election (KIP-996).
#[message(versions = 0..=2, flexible = 0..)]
pub struct VoteRequest {
    /// The id of the cluster, or null to not check it.
    pub cluster_id: Option<Str>,
    /// The voter that is asked, or -1 (KIP-853).
    #[wire(versions = 1.., default = NodeId::NONE, ignorable)]
    pub voter_id: NodeId,
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

/// The vote that is asked for in one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
    /// The epoch of the candidate.
    pub replica_epoch: LeaderEpoch,
    /// The candidate.
    pub replica_id: NodeId,
    /// The directory of the candidate's metadata log (KIP-853).
    #[wire(versions = 1.., ignorable)]
    pub replica_directory_id: Uuid,
    /// The directory of the voter's metadata log (KIP-853).
    #[wire(versions = 1.., ignorable)]
    pub voter_directory_id: Uuid,
    /// The epoch of the last record in the candidate's log.
    pub last_offset_epoch: LeaderEpoch,
    /// The end of the candidate's log.
    pub last_offset: Offset,
    /// Whether the candidate only asks how an election would end (KIP-996).
    #[wire(versions = 2..)]
    pub pre_vote: bool,
}

/// Gives or denies votes.
///
/// Version 1 tells where leaders listen (KIP-853).
#[message(versions = 0..=2, flexible = 0..)]
pub struct VoteResponse {
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

/// The vote in one partition. Kafka calls this struct `PartitionData`, too.
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
    /// Whether the candidate gets the vote.
    pub vote_granted: bool,
}

/// Where a node listens.
#[derive(Clone, PartialEq, Wire)]
pub struct NodeEndpoint {
    /// The node.
    pub node_id: NodeId,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: u16,
}
