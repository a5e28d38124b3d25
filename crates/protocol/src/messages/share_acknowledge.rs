//! ShareAcknowledge, key 79.

use super::*;

/// Acknowledges records of a share group (KIP-932).
///
/// Version 0 was a preview in Kafka 4.0 and is gone. Version 2 keeps locks (KIP-1222).
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = 1..=2, flexible = 0..)]
pub struct ShareAcknowledgeRequest {
    /// The group.
    pub group_id: Option<GroupId>,
    /// The member.
    pub member_id: Option<Str>,
    /// The number of the request within the share session; 0 opens one, -1 closes it.
    pub share_session_epoch: i32,
    /// Whether there are acknowledgements that keep the lock (KIP-1222).
    #[wire(versions = 2..)]
    pub is_renew_ack: bool,
    /// The topics.
    pub topics: Vec<AcknowledgeTopic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AcknowledgeTopic {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<AcknowledgePartition>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AcknowledgePartition {
    /// The partition.
    pub partition_index: i32,
    /// The records that are acknowledged.
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
}

/// What became of the records from one offset to another.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AcknowledgementBatch {
    /// The first offset.
    pub first_offset: Offset,
    /// The last offset.
    pub last_offset: Offset,
    /// What became of the records: 0 there is none (a gap), 1 accepted, 2 released, 3 rejected, 4
    /// not done yet, keep the lock (KIP-1222). One value stands for all.
    pub acknowledge_types: Vec<i8>,
}

/// Says which acknowledgements were taken.
///
/// Version 2 tells how long locks hold (KIP-1222).
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = 1..=2, flexible = 0..)]
pub struct ShareAcknowledgeResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// For how many milliseconds the acquired records are locked.
    #[wire(versions = 2.., ignorable)]
    pub acquisition_lock_timeout_ms: i32,
    /// The topics.
    pub responses: Vec<ShareAcknowledgeTopicResponse>,
    /// Where the leaders named above listen.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ShareAcknowledgeTopicResponse {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The leader to ask, if it is not this broker.
    pub current_leader: LeaderIdAndEpoch,
}

/// A leader and its epoch.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct LeaderIdAndEpoch {
    /// The leader, or -1 if unknown.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct NodeEndpoint {
    /// The node.
    pub node_id: NodeId,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// The rack (`broker.rack`), or null.
    pub rack: Option<Str>,
}
