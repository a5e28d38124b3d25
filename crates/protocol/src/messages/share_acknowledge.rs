//! ShareAcknowledge, key 79.

pub use super::fetch_snapshot::LeaderIdAndEpoch;
pub use super::produce::NodeEndpoint;
pub use super::share_fetch::AcknowledgementBatch;
use super::*;

/// Acknowledges records of a share group (KIP-932).
///
/// Version 0 was a preview in Kafka 4.0 and is gone. Version 2 keeps locks (KIP-1222).
#[message(versions = 1..=2, flexible = 0..)]
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
#[derive(Clone, PartialEq, Wire)]
pub struct AcknowledgeTopic {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<AcknowledgePartition>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct AcknowledgePartition {
    /// The partition.
    pub partition_index: i32,
    /// The records that are acknowledged.
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
}

/// Says which acknowledgements were taken.
///
/// Version 2 tells how long locks hold (KIP-1222).
#[message(versions = 1..=2, flexible = 0..)]
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
#[derive(Clone, PartialEq, Wire)]
pub struct ShareAcknowledgeTopicResponse {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
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
