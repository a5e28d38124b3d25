//! ShareFetch, key 78.

pub use super::fetch_snapshot::LeaderIdAndEpoch;
pub use super::produce::NodeEndpoint;
use super::*;

/// Acquires records for a member of a share group, and acknowledges others (KIP-932).
///
/// Version 0 was a preview in Kafka 4.0 and is gone. Version 2 adds the mode (KIP-1206) and keeps
/// locks (KIP-1222).
#[message(versions = 1..=2, flexible = 0..)]
pub struct ShareFetchRequest {
    /// The group.
    pub group_id: Option<GroupId>,
    /// The member.
    pub member_id: Option<Str>,
    /// The number of the request within the share session; 0 opens one, -1 closes it.
    pub share_session_epoch: i32,
    /// How long the broker may wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes the answer should have at least, if the wait allows.
    pub min_bytes: i32,
    /// How many bytes the answer may have; a first batch that is larger is sent nevertheless
    /// (KIP-74).
    #[wire(default = i32::MAX)]
    pub max_bytes: i32,
    /// How many records the answer may have; a batch is not cut unless the mode says so.
    pub max_records: i32,
    /// How many records a batch of acquired records should have.
    pub batch_size: i32,
    /// 0 to acquire whole batches, 1 to acquire no more than `max_records` (KIP-1206).
    #[wire(versions = 2.., ignorable)]
    pub share_acquire_mode: i8,
    /// Whether there are acknowledgements that keep the lock; then nothing is fetched (KIP-1222).
    #[wire(versions = 2..)]
    pub is_renew_ack: bool,
    /// The topics.
    pub topics: Vec<FetchTopic>,
    /// What to remove from the session.
    pub forgotten_topics_data: Vec<ForgottenTopic>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct FetchTopic {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct FetchPartition {
    /// The partition.
    pub partition_index: i32,
    /// The records that are acknowledged.
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
}

/// What became of the records from one offset to another.
#[derive(Clone, PartialEq, Wire)]
pub struct AcknowledgementBatch {
    /// The first offset.
    pub first_offset: Offset,
    /// The last offset.
    pub last_offset: Offset,
    /// What became of the records: 0 there is none (a gap), 1 accepted, 2 released, 3 rejected, 4
    /// not done yet, keep the lock (KIP-1222). One value stands for all.
    pub acknowledge_types: Vec<i8>,
}

/// Partitions of one topic to remove from the session.
#[derive(Clone, PartialEq, Wire)]
pub struct ForgottenTopic {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Brings acquired records.
#[message(versions = 1..=2, flexible = 0..)]
pub struct ShareFetchResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// For how many milliseconds the acquired records are locked.
    pub acquisition_lock_timeout_ms: i32,
    /// The topics.
    pub responses: Vec<ShareFetchableTopicResponse>,
    /// Where the leaders named above listen.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ShareFetchableTopicResponse {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// What was acquired of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// What went wrong with the acknowledgements, if anything.
    pub acknowledge_error_code: ErrorCode,
    /// What went wrong with the acknowledgements in words, or null.
    pub acknowledge_error_message: Option<Str>,
    /// The leader to ask, if it is not this broker.
    pub current_leader: LeaderIdAndEpoch,
    /// The record batches; possibly ending within a batch.
    pub records: Payload,
    /// Which of the records the member has acquired.
    pub acquired_records: Vec<AcquiredRecords>,
}

/// Records that the member has acquired.
#[derive(Clone, PartialEq, Wire)]
pub struct AcquiredRecords {
    /// The first offset.
    pub first_offset: Offset,
    /// The last offset.
    pub last_offset: Offset,
    /// How often the records have been delivered.
    pub delivery_count: i16,
}
