//! DescribeProducers, key 61.

use super::*;

/// Asks which producers partitions know (KIP-664).
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeProducersRequest {
    /// The topics.
    pub topics: Vec<TopicRequest>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicRequest {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partition_indexes: Vec<i32>,
}

/// Lists producers.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeProducersResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<TopicResponse>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicResponse {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<PartitionResponse>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The producers whose state the partition keeps.
    pub active_producers: Vec<ProducerState>,
}

/// A producer as the partition knows it.
#[derive(Clone, PartialEq, Wire)]
pub struct ProducerState {
    /// The producer.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: i32,
    /// The sequence number of the last record, or -1.
    #[wire(default = -1)]
    pub last_sequence: i32,
    /// When the producer last wrote, or -1.
    #[wire(default = Timestamp::NONE)]
    pub last_timestamp: Timestamp,
    /// The epoch of the transaction coordinator that wrote the last marker.
    pub coordinator_epoch: i32,
    /// The first offset of the producer's open transaction, or -1.
    #[wire(default = Offset::NONE)]
    pub current_txn_start_offset: Offset,
}
