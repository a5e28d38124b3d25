//! Produce, key 0.

use super::*;

/// Appends record batches to partitions.
///
/// Version 2 brings records with timestamps (format 1, KIP-32), 3 record batches and transactions
/// (format 2, KIP-98), 7 allows zstd (KIP-110), 8 lets the broker name the bad records of a batch
/// (KIP-467), 11 knows `TRANSACTION_ABORTABLE`, 12 lets partitions join a transaction without
/// asking (KIP-890), 13 names topics by id (KIP-516).
#[message(versions = 0..=13, flexible = 9..)]
pub struct ProduceRequest {
    /// The transactional id of the producer, or null for a producer without transactions.
    #[wire(versions = 3..)]
    pub transactional_id: Option<TransactionalId>,
    /// Which replicas must have the records before the answer: 0 none and no answer at all, 1 the
    /// leader, -1 all in sync.
    pub acks: i16,
    /// How long the broker may wait for the replicas, in milliseconds.
    pub timeout_ms: i32,
    /// The batches, by topic.
    pub topic_data: Vec<TopicProduceData>,
}

/// The batches for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicProduceData {
    /// The topic; replaced by its id in version 13.
    #[wire(versions = ..=12, ignorable)]
    pub name: TopicName,
    /// The id of the topic, in place of its name from version 13 on (KIP-516).
    #[wire(versions = 13.., ignorable)]
    pub topic_id: Uuid,
    /// The batches, by partition.
    pub partition_data: Vec<PartitionProduceData>,
}

/// The batches for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionProduceData {
    /// The partition.
    pub index: i32,
    /// The records: from version 3 on one batch of format 2, before a message set of format 0 or 1.
    #[wire(records)]
    pub records: Option<Bytes>,
}

/// Says where the batches went, or why they did not.
///
/// Version 5 tells where the log starts, 8 names the bad records of a batch (KIP-467), 10 names the
/// new leader if it is another broker (KIP-951), 13 names topics by id (KIP-516).
#[message(versions = 0..=13, flexible = 9..)]
pub struct ProduceResponse {
    /// The answers, by topic.
    pub responses: Vec<TopicProduceResponse>,
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// Where the leaders named above listen (KIP-951).
    #[wire(versions = 10.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicProduceResponse {
    /// The topic; replaced by its id in version 13.
    #[wire(versions = ..=12, ignorable)]
    pub name: TopicName,
    /// The id of the topic, in place of its name from version 13 on (KIP-516).
    #[wire(versions = 13.., ignorable)]
    pub topic_id: Uuid,
    /// The answers, by partition.
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionProduceResponse {
    /// The partition.
    pub index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The offset of the first record, or -1.
    pub base_offset: Offset,
    /// When the broker appended the records, or -1 if they keep their own timestamps.
    #[wire(versions = 2.., default = Timestamp::NONE, ignorable)]
    pub log_append_time_ms: Timestamp,
    /// The first offset of the log.
    #[wire(versions = 5.., default = Offset::NONE, ignorable)]
    pub log_start_offset: Offset,
    /// The records that caused the refusal of the batch (KIP-467).
    #[wire(versions = 8.., ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// What went wrong in words, or null.
    #[wire(versions = 8.., ignorable)]
    pub error_message: Option<Str>,
    /// The leader to ask, if it is not this broker (KIP-951).
    #[wire(versions = 10.., tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
}

/// A record that caused the refusal of its batch.
#[derive(Clone, PartialEq, Wire)]
pub struct BatchIndexAndErrorMessage {
    /// The number of the record within the batch, from 0.
    pub batch_index: i32,
    /// What is wrong with the record, if there is more to say.
    pub batch_index_error_message: Option<Str>,
}

/// A leader and its epoch.
#[derive(Clone, PartialEq, Wire)]
pub struct LeaderIdAndEpoch {
    /// The leader, or -1 if there is none.
    #[wire(default = NodeId::NONE)]
    pub leader_id: NodeId,
    /// The epoch of that leader, or -1.
    #[wire(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
}

/// Where a broker listens.
#[derive(Clone, PartialEq, Wire)]
pub struct NodeEndpoint {
    /// The broker.
    pub node_id: NodeId,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// The rack (`broker.rack`), or null.
    pub rack: Option<Str>,
}
